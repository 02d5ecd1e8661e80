// The driver of kafkajs. It consumes in groups only.
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4-napi'
import { kept, membership, record, run, Unsupported } from './driver.mjs'

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs
const { version } = JSON.parse(readFileSync(new URL('node_modules/kafkajs/package.json', import.meta.url)))

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => promisify(zlib.zstdCompress)(encoder.buffer),
  decompress: buffer => promisify(zlib.zstdDecompress)(buffer),
})
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }

const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.ERROR })

const producer = kept(async idempotent => {
  const producer = kafka.producer({ idempotent, ...(idempotent ? { maxInFlightRequests: 1 } : {}) })
  await producer.connect()
  return producer
})

const admin = kept(async () => {
  const admin = kafka.admin()
  await admin.connect()
  return admin
})

function message(told, partition) {
  const { key, value, headers, timestamp } = record(told)
  const message = { key, value, partition, headers: {}, timestamp: timestamp && String(timestamp) }
  for (const [name, value] of headers) {
    if (value === null) throw new Unsupported('headers must have values')
    message.headers[name] = [...(message.headers[name] ?? []), value]
  }
  return message
}

function topicConfig(request) {
  return { type: ConfigResourceTypes.TOPIC, name: request.topic }
}

const code = error => (typeof error.code === 'number' ? error.code : 0)

async function join({ group, topic, session_timeout_ms: sessionTimeout }, member) {
  const consumer = kafka.consumer({
    groupId: group,
    sessionTimeout,
    heartbeatInterval: sessionTimeout / 10,
    maxWaitTimeInMs: 20,
  })
  const { CRASH, GROUP_JOIN, REBALANCING } = consumer.events
  // It joins again as soon as this returns, and by the same connection, so after the commit.
  consumer.on(REBALANCING, () => {
    member.commit()
    member.revoked(member.partitions())
  })
  consumer.on(GROUP_JOIN, ({ payload }) => {
    member.revoked(member.partitions())
    member.assigned(payload.memberAssignment[topic] ?? [])
  })
  consumer.on(CRASH, ({ payload }) => payload.restart || member.failed(payload.error))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const eachBatch = async ({ batch, resolveOffset, commitOffsetsIfNecessary }) => {
    const { partition } = batch
    // Consumer.commitOffsets tries again after a rebalance, when somebody else may have gone on.
    member.send = offsets =>
      commitOffsetsIfNecessary({
        topics: [{ topic, partitions: offsets.map(([partition, offset]) => ({ partition, offset: String(offset) })) }],
      })
    for (const { offset } of batch.messages) {
      await member.room()
      if (member.process(partition, Number(offset))) resolveOffset(offset)
      await member.commitIfDue()
    }
  }
  consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch }).catch(error => member.failed(error))
  return () => consumer.disconnect()
}

run({
  code,

  hello: () => ({
    family: 'kafkajs',
    library: `kafkajs ${version}`,
    codecs: Object.keys(CODECS),
    reads: false,
    groups: ['roundrobin'],
  }),

  ...membership(code, join),

  async produce({ topic, partition, codec, acks, idempotent, batch, records }) {
    const compression = CompressionTypes[CODECS[codec]]
    const messages = records.map(told => message(told, partition))
    const offsets = []
    for (const chunk of batch ? [messages] : messages.map(one => [one])) {
      const [told] = await (await producer(idempotent)).send({ topic, messages: chunk, acks, compression })
      offsets.push(...chunk.map((_, n) => (told ? Number(told.baseOffset) + n : null)))
    }
    return { offsets }
  },

  async fetch() {
    throw new Unsupported('it consumes in groups only')
  },

  async read_until_error() {
    throw new Unsupported('it consumes in groups only')
  },

  async offsets({ topic, partition }) {
    const all = await (await admin()).fetchTopicOffsets(topic)
    const { low, high } = all.find(one => one.partition === partition)
    return { earliest: Number(low), latest: Number(high) }
  },

  async offset_for_time({ topic, partition, timestamp }) {
    const found = await (await admin()).fetchTopicOffsetsByTimestamp(topic, timestamp)
    const offset = Number(found.find(one => one.partition === partition).offset)
    // What is not found is told to be at the end.
    const all = await (await admin()).fetchTopicOffsets(topic)
    return { offset: offset < Number(all.find(one => one.partition === partition).high) ? offset : null }
  },

  async create_topic({ topic, partitions, configs }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const wanted = { topic, numPartitions: partitions, replicationFactor: 1, configEntries }
    // Its own wait for leaders fails when the broker has not heard of the topic yet.
    if (!(await (await admin()).createTopics({ topics: [wanted], waitForLeaders: false }))) {
      throw Object.assign(new Error('createTopics says false'), { name: 'false' })
    }
  },

  async partitions({ topic }) {
    const { topics } = await (await admin()).fetchTopicMetadata({ topics: [topic] })
    return { count: topics[0].partitions.length }
  },

  async grow_topic({ topic, count }) {
    await (await admin()).createPartitions({ topicPartitions: [{ topic, count }] })
  },

  async alter_config(request) {
    const configEntries = [{ name: request.key, value: request.value }]
    await (await admin()).alterConfigs({ resources: [{ ...topicConfig(request), configEntries }] })
  },

  async describe_config(request) {
    const resources = [{ ...topicConfig(request), configNames: [request.key] }]
    const told = await (await admin()).describeConfigs({ resources, includeSynonyms: false })
    return { value: told.resources[0].configEntries[0].configValue }
  },

  async delete_topic({ topic }) {
    await (await admin()).deleteTopics({ topics: [topic] })
  },
})
