// The driver of @platformatic/kafka.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  Admin,
  ConfigResourceTypes,
  Consumer,
  IncrementalAlterConfigOperationTypes,
  Producer,
} from '@platformatic/kafka'
import { DEFAULT_MAX_BYTES, digest, failure, kept, membership, record, reply, run } from './driver.mjs'

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

async function join({ group, topic, assignor, session_timeout_ms: sessionTimeout }, member) {
  const consumer = new Consumer({
    ...common,
    groupId: group,
    ...(assignor === 'consumer'
      ? { groupProtocol: 'consumer' }
      : { protocols: [{ name: assignor, version: 1 }], sessionTimeout, heartbeatInterval: sessionTimeout / 10 }),
  })
  member.send = offsets =>
    consumer.commit({
      offsets: offsets.map(([partition, offset]) => ({ topic, partition, offset: BigInt(offset), leaderEpoch: -1 })),
    })
  const assigned = () => consumer.assignments?.find(one => one.topic === topic)?.partitions ?? []
  // The assignments that are over.
  let over = consumer.assignments
  // It answers the broker as soon as this returns, and by the same connection, so after the commit.
  consumer.on('consumer:group:rebalance', () => {
    over = consumer.assignments
    member.commit()
    const stay = assignor === 'cooperative-sticky' ? assigned() : []
    member.revoked(member.partitions().filter(partition => !stay.includes(partition)))
  })
  consumer.on('error', error => member.failed(error))

  const work = async () => {
    // Only consume joins groups of both protocols. Its stream is not used: it goes on with what it had while the group
    // rebalances.
    consumer.topics.track(topic)
    await (await consumer.consume({ topics: [topic], autocommit: false })).close()
    const positions = new Map()
    while (!member.stopped) {
      if (consumer.assignments === over) await sleep(20)
      else if (await adopt(positions)) await go(positions)
    }
  }

  /** Follows the assignments; says false if they are over meanwhile. */
  const adopt = async positions => {
    const now = consumer.assignments
    member.revoked(member.partitions().filter(partition => !assigned().includes(partition)))
    const added = assigned().filter(partition => !member.partitions().includes(partition))
    if (added.length > 0) {
      const committed = (await consumer.listCommittedOffsets({ topics: [{ topic, partitions: added }] })).get(topic)
      const earliest = (await consumer.listOffsets({ topics: [topic], timestamp: -2n })).get(topic)
      if (now !== consumer.assignments || now === over) return false
      for (const partition of added) {
        positions.set(partition, committed[partition] >= 0n ? committed[partition] : earliest[partition])
      }
      member.assigned(added)
    }
    return true
  }

  /** Processes what a fetch brings. */
  const go = async positions => {
    const { id, partitions } = (await consumer.metadata({ topics: [topic] })).topics.get(topic)
    const now = consumer.assignments
    const wanted = member.partitions().map(partition => ({
      partition,
      fetchOffset: positions.get(partition),
      partitionMaxBytes: DEFAULT_MAX_BYTES,
      currentLeaderEpoch: -1,
      lastFetchedEpoch: -1,
    }))
    if (wanted.length === 0) return sleep(20)
    // There is one broker.
    const node = partitions[wanted[0].partition].leader
    const fetched = await consumer.fetch({ node, topics: [{ topicId: id, partitions: wanted }], maxWaitTime: 20 })
    for (const { partitionIndex: partition, records } of fetched.responses[0]?.partitions ?? []) {
      for (const { offset } of (records ?? []).flatMap(all)) {
        await member.room()
        if (now !== consumer.assignments || now === over) return
        if (offset < positions.get(partition) || !member.process(partition, Number(offset))) continue
        positions.set(partition, offset + 1n)
        await member.commitIfDue()
      }
    }
  }

  const working = work().catch(error => member.failed(error))
  return async () => {
    await working
    await consumer.close(true)
  }
}

const code = error => error.apiCode ?? 0

const family = {
  code,

  hello: async () => ({
    family: 'platformatic-kafka',
    library: `${name} ${version}`,
    codecs: ['none', 'gzip', 'snappy', 'lz4', 'zstd'],
    reads: true,
    groups: ['roundrobin', 'cooperative-sticky', 'consumer'],
  }),

  ...membership(code, join),

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
