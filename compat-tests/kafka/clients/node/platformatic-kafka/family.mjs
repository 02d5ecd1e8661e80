// The driver of @platformatic/kafka.
import { readFileSync } from 'node:fs'
import {
  Admin,
  ConfigResourceTypes,
  Consumer,
  IncrementalAlterConfigOperationTypes,
  Producer,
} from '@platformatic/kafka'
import { DEFAULT_MAX_BYTES, digest, failure, kept, record, reply, run } from './driver.mjs'

const name = '@platformatic/kafka'
const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)))
const common = { clientId: 'driver', bootstrapBrokers: [process.argv[2]] }

const producer = kept(
  (compression, acks, idempotent) => new Producer({ ...common, compression, acks, idempotent, autocreateTopics: true }),
)

// The group is not used: what reads by assignment is Consumer.fetch, below its streams.
const consumer = kept(() => new Consumer({ ...common, groupId: 'unused' }))

const admin = kept(() => new Admin(common))

function message(told, topic, partition) {
  const { key, value, headers, timestamp } = record(told)
  return {
    topic,
    partition,
    key,
    value,
    // Buffers are different keys of a map, even when they are the same bytes.
    headers: new Map(headers.map(([name, value]) => [Buffer.from(name), value])),
    ...(timestamp === undefined ? {} : { timestamp: BigInt(timestamp) }),
  }
}

/** Reads a partition from an offset on, until what it is called with `seen` says that it is enough. */
async function read({ topic, partition, offset, max_bytes: maxBytes = DEFAULT_MAX_BYTES }, seen) {
  consumer().topics.track(topic)
  try {
    const { id, partitions } = (await consumer().metadata({ topics: [topic], forceUpdate: true })).topics.get(topic)
    let next = BigInt(offset)
    for (;;) {
      const wanted = {
        partition,
        fetchOffset: next,
        partitionMaxBytes: maxBytes,
        currentLeaderEpoch: -1,
        lastFetchedEpoch: -1,
      }
      const fetched = await consumer().fetch({
        node: partitions[partition].leader,
        topics: [{ topicId: id, partitions: [wanted] }],
        maxBytes,
        maxWaitTime: 100,
      })
      const batches = fetched.responses[0]?.partitions[0].records ?? []
      const records = batches.flatMap(all).filter(one => one.offset >= next)
      next = records.length ? records.at(-1).offset + 1n : next
      if (seen(records)) return
    }
  } finally {
    consumer().topics.untrack(topic)
  }
}

/** The records of a batch. */
function all({ attributes, firstOffset, firstTimestamp, maxTimestamp, records }) {
  const timestamp_type = (attributes >> 3) & 1
  return records.map(({ offsetDelta, timestampDelta, key, value, headers }) => ({
    offset: firstOffset + BigInt(offsetDelta),
    timestamp: timestamp_type ? maxTimestamp : firstTimestamp + timestampDelta,
    timestamp_type,
    key: digest(key),
    value: digest(value),
    headers: headers.map(([name, value]) => [name.toString(), digest(value)]),
  }))
}

async function listed({ topic, partition }, timestamp) {
  const topics = [{ name: topic, partitions: [{ partitionIndex: partition, timestamp: BigInt(timestamp) }] }]
  const [{ partitions }] = await admin().listOffsets({ topics })
  return partitions[0].offset
}

function topicConfig(request) {
  return { resourceType: ConfigResourceTypes.TOPIC, resourceName: request.topic }
}

const family = {
  code: error => error.apiCode ?? 0,

  hello: async () => ({
    family: 'platformatic-kafka',
    library: `${name} ${version}`,
    codecs: ['none', 'gzip', 'snappy', 'lz4', 'zstd'],
    reads: true,
  }),

  async produce({ topic, partition, codec, acks, idempotent, batch, records }) {
    const messages = records.map(told => message(told, topic, partition))
    const offsets = []
    for (const chunk of batch ? [messages] : messages.map(one => [one])) {
      const told = await producer(codec, acks, idempotent).send({ messages: chunk })
      const first = told.offsets?.[0]?.offset
      offsets.push(...chunk.map((_, n) => (first === undefined ? null : first + BigInt(n))))
    }
    return { offsets }
  },

  async fetch(request) {
    const records = []
    const end = Date.now() + request.timeout_ms
    await read(request, more => records.push(...more) >= request.count || Date.now() > end)
    if (records.length < request.count) throw new Error(`only ${records.length} of ${request.count} records came`)
    return { records: records.slice(0, request.count) }
  },

  async read_until_error(request) {
    let count = 0
    let end = Date.now() + request.timeout_ms
    try {
      await read(request, more => {
        if (count === 0 && more.length > 0) {
          end = Date.now() + request.timeout_ms
          reply({ ok: true, reading: true })
        }
        count += more.length
        return Date.now() > end
      })
    } catch (error) {
      return { records: count, ...failure(family, error) }
    }
    return { records: count, ended: 'timeout' }
  },

  offsets: async request => ({ earliest: await listed(request, -2), latest: await listed(request, -1) }),

  async offset_for_time(request) {
    const offset = await listed(request, request.timestamp)
    return { offset: offset < 0 ? null : offset }
  },

  async create_topic({ topic, partitions, configs }) {
    const entries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    await admin().createTopics({ topics: [topic], partitions, replicas: 1, configs: entries })
  },

  async partitions({ topic }) {
    const { topics } = await admin().metadata({ topics: [topic], forceUpdate: true })
    return { count: topics.get(topic).partitionsCount }
  },

  async grow_topic({ topic, count }) {
    await admin().createPartitions({ topics: [{ name: topic, count, assignments: null }] })
  },

  async alter_config(request) {
    const config = { name: request.key, value: request.value, configOperation: IncrementalAlterConfigOperationTypes.SET }
    await admin().incrementalAlterConfigs({ resources: [{ ...topicConfig(request), configs: [config] }] })
  },

  async describe_config(request) {
    const resources = [{ ...topicConfig(request), configurationKeys: [request.key] }]
    const [told] = await admin().describeConfigs({ resources })
    return { value: told.configs[0].value }
  },

  async delete_topic({ topic }) {
    await admin().deleteTopics({ topics: [topic] })
  },
}

run(family)
