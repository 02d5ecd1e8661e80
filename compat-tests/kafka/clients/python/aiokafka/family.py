"""The driver of aiokafka."""

import asyncio

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import BrokerResponseError, for_code

import driver

ASSIGNORS = {
    assignor.name: assignor
    for assignor in [RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor]
}


class Aiokafka(driver.Family):
    def __init__(self, *args):
        super().__init__(*args)
        self.running = set()

    def hello(self, _):
        return {
            "family": "aiokafka",
            "library": f"aiokafka {aiokafka.__version__}",
            "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
            "reads": True,
            "groups": list(ASSIGNORS),
        }

    def failure(self, error):
        if isinstance(error, BrokerResponseError):
            return {"kafka_error": error.errno}
        return super().failure(error)

    async def started(self, make, *args):
        """A kept client, running."""
        client = self.kept(make, *args)
        if client not in self.running:
            await client.start()
            self.running.add(client)
        return client

    async def produce(self, request):
        options = ["codec", "acks", "idempotent", "max_message_bytes"]
        producer = await self.started(self.new_producer, *map(request.get, options))
        send = send_batched if request["batch"] else send_each
        place = {"topic": request["topic"], "partition": request["partition"]}
        return {"offsets": await send(producer, place, map(driver.record, request["records"]))}

    def new_producer(self, codec, acks, idempotent, max_message_bytes):
        return aiokafka.AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            acks=acks,
            enable_idempotence=idempotent,
            max_batch_size=4 << 20,
            **({"max_request_size": max_message_bytes} if max_message_bytes else {}),
        )

    async def fetch(self, request):
        consumer, partition = await self.consumer_at(request, request.get("max_bytes") or driver.DEFAULT_MAX_BYTES)
        deadline = driver.Deadline(request)
        records = []
        while len(records) < request["count"] and deadline.left() > 0:
            polled = await consumer.getmany(timeout_ms=100, max_records=request["count"] - len(records))
            records += map(driver.seen_record, polled.get(partition, []))
        consumer.unsubscribe()
        driver.need_all(records, request["count"])
        return {"records": records}

    async def read_until_error(self, request):
        consumer, partition = await self.consumer_at(request, driver.DEFAULT_MAX_BYTES)
        deadline = driver.Deadline(request)
        count = 0
        ended = {"ended": "timeout"}
        try:
            while deadline.left() > 0:
                before = count
                count += len((await consumer.getmany(timeout_ms=100)).get(partition, []))
                if count > before == 0:
                    deadline.restart()
                    self.reply({"ok": True, "reading": True})
        except Exception as error:
            ended = self.failure(error)
        consumer.unsubscribe()
        return {"records": count} | ended

    async def consumer_at(self, request, max_bytes):
        consumer = await self.started(self.new_consumer, max_bytes)
        consumer.assign([partition(request)])
        consumer.seek(partition(request), request["offset"])
        return consumer, partition(request)

    async def consumer(self):
        return await self.started(self.new_consumer, driver.DEFAULT_MAX_BYTES)

    def new_consumer(self, max_bytes):
        return aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_bytes=max_bytes,
            max_partition_fetch_bytes=max_bytes,
        )

    async def offsets(self, request):
        asked = partition(request)
        consumer = await self.consumer()
        earliest = await consumer.beginning_offsets([asked])
        latest = await consumer.end_offsets([asked])
        return {"earliest": earliest[asked], "latest": latest[asked]}

    async def offset_for_time(self, request):
        asked = partition(request)
        found = await (await self.consumer()).offsets_for_times({asked: request["timestamp"]})
        return {"offset": found[asked] and found[asked].offset}

    async def new_member(self, request):
        member = Member(self.bootstrap, request)
        await member.consumer.start()
        member.consumer.subscribe([member.topic], listener=member)
        return member

    async def admin(self):
        return await self.started(self.new_admin)

    def new_admin(self):
        return AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)

    async def create_topic(self, request):
        topic = NewTopic(request["topic"], request["partitions"], 1, topic_configs=request["configs"])
        told = await (await self.admin()).create_topics([topic])
        [(_, code, message)] = told.topic_errors
        check(code, message)

    async def partitions(self, request):
        [topic] = await (await self.admin()).describe_topics([request["topic"]])
        check(topic["error_code"])
        return {"count": len(topic["partitions"])}

    async def grow_topic(self, request):
        await (await self.admin()).create_partitions({request["topic"]: NewPartitions(request["count"])})

    async def alter_config(self, request):
        change = resource(request, {request["key"]: request["value"]})
        [told] = await (await self.admin()).alter_configs([change])
        [(code, message, *_)] = told.resources
        check(code, message)

    async def describe_config(self, request):
        [told] = await (await self.admin()).describe_configs([resource(request, {request["key"]: None})])
        [(code, message, _, _, [(_, value, *_)])] = told.resources
        check(code, message)
        return {"value": value}

    async def delete_topic(self, request):
        told = await (await self.admin()).delete_topics([request["topic"]])
        [(_, code)] = told.topic_error_codes
        check(code)


class Member(driver.Member, aiokafka.ConsumerRebalanceListener):
    def __init__(self, bootstrap, request):
        super().__init__(request)
        self.consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=request["group"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            partition_assignment_strategy=[ASSIGNORS[request["assignor"]]],
            session_timeout_ms=request["session_timeout_ms"],
            heartbeat_interval_ms=request["session_timeout_ms"] // 10,
        )

    async def on_partitions_assigned(self, partitions):
        self.assigned(partitions)

    async def on_partitions_revoked(self, partitions):
        await self.commit()
        self.revoked(partitions)

    async def poll(self, timeout_s):
        # `getmany` waits without limit while the group rebalances, and else gives at once what is there. If it waited
        # for records, or was a task of its own, partitions could be revoked between that and the events here.
        polled = {}
        try:
            async with asyncio.timeout(timeout_s):
                polled = await self.consumer.getmany(max_records=driver.FEW)
        except TimeoutError:
            pass
        for records in polled.values():
            for record in records:
                self.processed(record.partition, record.offset)
        if not polled:
            await asyncio.sleep(0.01)

    async def commit(self):
        with self.committing() as offsets:
            if offsets:
                offsets = {aiokafka.TopicPartition(self.topic, place): offset for place, offset in offsets.items()}
                # The library itself tries for ever.
                async with asyncio.timeout(driver.LIMIT_S):
                    await self.consumer.commit(offsets)

    async def close(self):
        await self.consumer.stop()


async def send_each(producer, place, records):
    offsets = []
    for record in records:
        record["timestamp_ms"] = record.pop("timestamp")
        told = await producer.send_and_wait(**place, **record)
        offsets.append(told and told.offset)
    return offsets


async def send_batched(producer, place, records):
    batch = producer.create_batch()
    count = 0
    for record in records:
        if batch.append(**record) is None:
            raise driver.Unsupported("more than a batch holds")
        count += 1
    told = await (await producer.send_batch(batch, **place))
    return [told and told.offset + n for n in range(count)]


def check(code, message=None):
    if code:
        raise for_code(code)(message)


def partition(request):
    return aiokafka.TopicPartition(request["topic"], request["partition"])


def resource(request, configs):
    return ConfigResource(ConfigResourceType.TOPIC, request["topic"], configs)


if __name__ == "__main__":
    driver.run(Aiokafka)
