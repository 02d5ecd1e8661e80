"""The driver of confluent-kafka, which is librdkafka."""

import time

import confluent_kafka as ck
from confluent_kafka import admin

import driver


class ConfluentKafka(driver.Family):
    def hello(self, _):
        return {
            "family": "confluent-kafka",
            "library": f"confluent-kafka {ck.version()}, librdkafka {ck.libversion()[0]}",
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
            "reads": True,
            "groups": ["range", "roundrobin", "cooperative-sticky", "consumer"],
        }

    def failure(self, error):
        told = error.args[0] if isinstance(error, ck.KafkaException) else error
        if not isinstance(told, ck.KafkaError):
            return super().failure(error)
        # Negative ones are librdkafka's own.
        return {"kafka_error": told.code()} if told.code() > 0 else {"client_error": told.name()}

    def produce(self, request):
        options = ["codec", "acks", "idempotent", "batch", "max_message_bytes"]
        producer = self.kept(self.new_producer, *map(request.get, options))
        delivered = {}
        for n, told in enumerate(request["records"]):
            record = driver.record(told)
            # 0 is the client's clock.
            record["timestamp"] = record["timestamp"] or 0
            producer.produce(
                request["topic"],
                partition=request["partition"],
                on_delivery=lambda error, message, n=n: delivered.update({n: error or message.offset()}),
                **record,
            )
            if not request["batch"]:
                producer.flush()
        producer.flush()
        for error in delivered.values():
            if isinstance(error, ck.KafkaError):
                raise ck.KafkaException(error)
        return {"offsets": [delivered[n] for n in sorted(delivered)]}

    def new_producer(self, codec, acks, idempotent, batch, max_message_bytes):
        config = {
            "bootstrap.servers": self.bootstrap,
            "compression.codec": codec,
            "acks": acks,
            "enable.idempotence": idempotent,
            "message.timeout.ms": driver.LIMIT_S * 1000,
        }
        if batch:
            # A flush does not always end the wait.
            config |= {"linger.ms": 50, "batch.size": 4 << 20}
        if max_message_bytes:
            config["message.max.bytes"] = max_message_bytes
        return ck.Producer(config)

    def fetch(self, request):
        consumer = self.consumer_at(request, request.get("max_bytes") or driver.DEFAULT_MAX_BYTES)
        deadline = driver.Deadline(request)
        records = []
        while len(records) < request["count"] and deadline.left() > 0:
            for message in filter(of_partition, consumer.consume(request["count"] - len(records), 0.1)):
                records.append(seen(message))
        consumer.unassign()
        driver.need_all(records, request["count"])
        return {"records": records}

    def read_until_error(self, request):
        consumer = self.consumer_at(request, driver.DEFAULT_MAX_BYTES)
        deadline = driver.Deadline(request)
        count = 0
        ended = {"ended": "timeout"}
        while deadline.left() > 0:
            message = consumer.poll(0.1)
            if message is None or not of_partition(message):
                continue
            if message.error():
                ended = self.failure(message.error())
                break
            count += 1
            if count == 1:
                deadline.restart()
                self.reply({"ok": True, "reading": True})
        consumer.unassign()
        return {"records": count} | ended

    def consumer_at(self, request, max_bytes):
        consumer = self.kept(self.new_consumer, max_bytes)
        consumer.assign([ck.TopicPartition(request["topic"], request["partition"], request["offset"])])
        # librdkafka itself looks but once a second for the leaders of partitions that it did not know.
        consumer.list_topics(request["topic"], driver.LIMIT_S)
        return consumer

    def consumer(self):
        return self.kept(self.new_consumer, driver.DEFAULT_MAX_BYTES)

    def new_consumer(self, max_bytes):
        return ck.Consumer({
            "bootstrap.servers": self.bootstrap,
            # Needed, but assigned partitions never make it join.
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            # A fetch that waits at the broker holds up the next one.
            "fetch.wait.max.ms": 20,
            "fetch.max.bytes": max_bytes,
            "message.max.bytes": max_bytes,
            "max.partition.fetch.bytes": max_bytes,
            "receive.message.max.bytes": driver.DEFAULT_MAX_BYTES + 1000,
        })

    def offsets(self, request):
        partition = ck.TopicPartition(request["topic"], request["partition"])
        earliest, latest = self.consumer().get_watermark_offsets(partition, driver.LIMIT_S, cached=False)
        return {"earliest": earliest, "latest": latest}

    def offset_for_time(self, request):
        wanted = ck.TopicPartition(request["topic"], request["partition"], request["timestamp"])
        [found] = self.consumer().offsets_for_times([wanted], driver.LIMIT_S)
        if found.error:
            raise ck.KafkaException(found.error)
        return {"offset": found.offset if found.offset >= 0 else None}

    def new_member(self, request):
        return Member(self.bootstrap, request)

    def admin(self):
        return self.kept(self.new_admin)

    def new_admin(self):
        return admin.AdminClient({"bootstrap.servers": self.bootstrap})

    def create_topic(self, request):
        topic = admin.NewTopic(request["topic"], request["partitions"], 1, config=request["configs"])
        result(self.admin().create_topics([topic]))

    def partitions(self, request):
        described = result(self.admin().describe_topics(ck.TopicCollection([request["topic"]])))
        return {"count": len(described.partitions)}

    def grow_topic(self, request):
        result(self.admin().create_partitions([admin.NewPartitions(request["topic"], request["count"])]))

    def alter_config(self, request):
        entry = admin.ConfigEntry(request["key"], request["value"], incremental_operation=admin.AlterConfigOpType.SET)
        resource = admin.ConfigResource(admin.ResourceType.TOPIC, request["topic"], incremental_configs=[entry])
        result(self.admin().incremental_alter_configs([resource]))

    def describe_config(self, request):
        resource = admin.ConfigResource(admin.ResourceType.TOPIC, request["topic"])
        return {"value": result(self.admin().describe_configs([resource]))[request["key"]].value}

    def delete_topic(self, request):
        result(self.admin().delete_topics([request["topic"]]))


class Member(driver.Member):
    def __init__(self, bootstrap, request):
        super().__init__(request)
        if request["assignor"] == "consumer":
            protocol = {"group.protocol": "consumer"}
        else:
            protocol = {
                "partition.assignment.strategy": request["assignor"],
                "session.timeout.ms": request["session_timeout_ms"],
                "heartbeat.interval.ms": request["session_timeout_ms"] // 10,
            }
        self.consumer = ck.Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": request["group"],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            **protocol,
        })
        self.consumer.subscribe(
            [self.topic],
            on_assign=lambda _, partitions: self.assigned(partitions),
            on_revoke=self.on_revoke,
            on_lost=lambda _, partitions: self.revoked(partitions),
        )

    def on_revoke(self, _, partitions):
        self.commit()
        if self.uncommitted:
            # The epoch or generation changed meanwhile.
            time.sleep(0.1)
            self.commit()
        self.revoked(partitions)

    def poll(self, timeout_s):
        message = self.consumer.poll(timeout_s)
        while message is not None:
            error = message.error()
            if not error:
                self.processed(message.partition(), message.offset())
            elif of_partition(message) or error.fatal():
                raise ck.KafkaException(error)
            else:
                # News of the group that pass, such as a coordinator that is not there yet.
                print(error)
            message = self.consumer.poll(0) if len(self.events) < driver.FEW else None

    def commit(self):
        with self.committing() as offsets:
            if offsets:
                offsets = [ck.TopicPartition(self.topic, *place) for place in offsets.items()]
                for told in self.consumer.commit(offsets=offsets, asynchronous=False):
                    if told.error:
                        raise ck.KafkaException(told.error)

    def close(self):
        self.consumer.close()


def result(futures):
    """What came of the only one of these."""
    [future] = futures.values()
    return future.result(driver.LIMIT_S)


def of_partition(message):
    """Whether it is more than news of the group."""
    return message.topic() is not None


def seen(message):
    if message.error():
        raise ck.KafkaException(message.error())
    kind, timestamp = message.timestamp()
    return driver.seen(
        message.offset(),
        timestamp,
        int(kind == ck.TIMESTAMP_LOG_APPEND_TIME),
        message.key(),
        message.value(),
        message.headers(),
    )


if __name__ == "__main__":
    driver.run(ConfluentKafka)
