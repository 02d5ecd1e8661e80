"""The driver of kafka-python."""

import re
import time

import kafka
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.errors import BrokerResponseError, NodeNotReadyError, for_code

import driver

ASSIGNORS = {
    assignor.name: assignor
    for assignor in [
        RangePartitionAssignor,
        RoundRobinPartitionAssignor,
        StickyPartitionAssignor,
        CooperativeStickyAssignor,
    ]
}


class KafkaPython(driver.Family):
    def hello(self, _):
        return {
            "family": "kafka-python",
            "library": f"kafka-python {kafka.__version__}",
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
            "reads": True,
            "groups": list(ASSIGNORS),
        }

    def failure(self, error):
        if isinstance(error, BrokerResponseError):
            return {"kafka_error": error.errno}
        return super().failure(error)

    def produce(self, request):
        options = ["codec", "acks", "idempotent", "batch", "max_message_bytes"]
        producer = self.kept(self.new_producer, *map(request.get, options))
        sent = []
        for record in map(driver.record, request["records"]):
            if any(value is None for _, value in record["headers"]):
                raise driver.Unsupported("headers must have values")
            record["timestamp_ms"] = record.pop("timestamp")
            sent.append(producer.send(request["topic"], partition=request["partition"], **record))
            if not request["batch"]:
                sent[-1].get(driver.LIMIT_S)
        producer.flush(driver.LIMIT_S)
        offsets = [future.get(driver.LIMIT_S).offset for future in sent]
        # Nobody tells the offset of what nobody acknowledges.
        return {"offsets": [offset if offset >= 0 else None for offset in offsets]}

    def new_producer(self, codec, acks, idempotent, batch, max_message_bytes):
        config = {}
        if batch:
            # The flush after the last record ends the wait.
            config = {"linger_ms": 10_000, "batch_size": 4 << 20}
        if max_message_bytes:
            config["max_request_size"] = max_message_bytes
        return kafka.KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            acks=acks,
            enable_idempotence=idempotent,
            **config,
        )

    def fetch(self, request):
        consumer, partition = self.consumer_at(request, request.get("max_bytes") or driver.DEFAULT_MAX_BYTES)
        deadline = driver.Deadline(request)
        records = []
        while len(records) < request["count"] and deadline.left() > 0:
            for record in consumer.poll(100, max_records=request["count"] - len(records)).get(partition, []):
                records.append(driver.seen_record(record))
        consumer.unsubscribe()
        driver.need_all(records, request["count"])
        return {"records": records}

    def read_until_error(self, request):
        consumer, _ = self.consumer_at(request, driver.DEFAULT_MAX_BYTES)
        deadline = driver.Deadline(request)
        count = 0
        ended = {"ended": "timeout"}
        try:
            while deadline.left() > 0:
                before = count
                count += sum(map(len, consumer.poll(100).values()))
                if count > before == 0:
                    deadline.restart()
                    self.reply({"ok": True, "reading": True})
        except Exception as error:
            ended = self.failure(error)
        consumer.unsubscribe()
        return {"records": count} | ended

    def consumer_at(self, request, max_bytes):
        consumer = self.kept(self.new_consumer, max_bytes)
        consumer.assign([partition(request)])
        consumer.seek(partition(request), request["offset"])
        return consumer, partition(request)

    def consumer(self):
        return self.kept(self.new_consumer, driver.DEFAULT_MAX_BYTES)

    def new_consumer(self, max_bytes):
        return kafka.KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_bytes=max_bytes,
            max_partition_fetch_bytes=max_bytes,
        )

    def offsets(self, request):
        asked = partition(request)
        earliest = self.consumer().beginning_offsets([asked])
        latest = self.consumer().end_offsets([asked])
        return {"earliest": earliest[asked], "latest": latest[asked]}

    def offset_for_time(self, request):
        found = self.consumer().offsets_for_times({partition(request): request["timestamp"]})[partition(request)]
        return {"offset": found and found.offset}

    def new_member(self, request):
        return Member(self.bootstrap, request)

    def ask(self, operation, *args, **options):
        """Asks the admin client, which does not itself wait for a broker that it lost."""
        end = time.monotonic() + driver.LIMIT_S
        while True:
            try:
                return getattr(self.kept(self.new_admin), operation)(*args, **options)
            except NodeNotReadyError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def new_admin(self):
        return kafka.KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def create_topic(self, request):
        options = {"num_partitions": request["partitions"], "replication_factor": 1, "configs": request["configs"]}
        self.ask("create_topics", {request["topic"]: options})

    def partitions(self, request):
        [topic] = self.ask("describe_topics", [request["topic"]])
        if topic["error_code"]:
            raise for_code(topic["error_code"])(request["topic"])
        return {"count": len(topic["partitions"])}

    def grow_topic(self, request):
        self.ask("create_partitions", {request["topic"]: request["count"]})

    def alter_config(self, request):
        told = self.ask("alter_configs", [resource(request, {request["key"]: request["value"]})])
        told = told["topic"][request["topic"]]
        # The text of an error is all that there is of it.
        if code := re.match(r"\[Error (\d+)\]", told):
            raise for_code(int(code[1]))(told)

    def describe_config(self, request):
        told = self.ask("describe_configs", [resource(request, [request["key"]])], config_filter="all")
        return {"value": told["topic"][request["topic"]][request["key"]]["value"]}

    def delete_topic(self, request):
        self.ask("delete_topics", [request["topic"]])


class Member(driver.Member, kafka.AsyncConsumerRebalanceListener):
    def __init__(self, bootstrap, request):
        super().__init__(request)
        self.consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=request["group"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            partition_assignment_strategy=[ASSIGNORS[request["assignor"]]],
            session_timeout_ms=request["session_timeout_ms"],
            heartbeat_interval_ms=request["session_timeout_ms"] // 10,
        )
        self.consumer.subscribe([self.topic], listener=self)
        # A leader that joins before it knows the topic joins again once it does, and the library forgets that second
        # join when a poll ends within it.
        self.consumer.topics()

    async def on_partitions_assigned(self, partitions):
        self.assigned(partitions)

    async def on_partitions_revoked(self, partitions):
        # The library's own thread is here, and may not wait in `commit`.
        with self.committing() as offsets:
            if offsets:
                await self.consumer.commit_async(self.positions(offsets))
        self.revoked(partitions)

    async def on_partitions_lost(self, partitions):
        self.revoked(partitions)

    def poll(self, timeout_s):
        for records in self.consumer.poll(timeout_s * 1000, max_records=driver.FEW).values():
            for record in records:
                self.processed(record.partition, record.offset)

    def commit(self):
        with self.committing() as offsets:
            if offsets:
                self.consumer.commit(self.positions(offsets))

    def positions(self, offsets):
        return {
            kafka.TopicPartition(self.topic, partition): kafka.OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }

    def close(self):
        self.consumer.close()


def partition(request):
    return kafka.TopicPartition(request["topic"], request["partition"])


def resource(request, configs):
    return ConfigResource(ConfigResourceType.TOPIC, request["topic"], configs)


if __name__ == "__main__":
    driver.run(KafkaPython)
