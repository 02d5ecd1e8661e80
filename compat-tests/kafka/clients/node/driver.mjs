// What the drivers of Node.js families share: see ../README.md.
import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { createInterface } from 'node:readline'

export const DEFAULT_MAX_BYTES = 16 << 20

// The library has no call for it.
export class Unsupported extends Error {}

const LIMIT_MS = 50_000
const write = process.stdout.write.bind(process.stdout)

export function reply(fields) {
  write(JSON.stringify(fields, (_, value) => (typeof value === 'bigint' ? Number(value) : value)) + '\n')
}

/** Answers what comes on standard input; `family` has a method for each operation, and `failure`. */
export async function run(family) {
  process.stdout.write = process.stderr.write.bind(process.stderr)
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    try {
      reply({ ok: true, ...(await within(LIMIT_MS, family[request.op](request))) })
    } catch (error) {
      if (error instanceof Unsupported) reply({ unsupported: error.message })
      else reply({ error: String(error), ...failure(family, error) })
    }
  }
  process.exit(0)
}

async function within(ms, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('the library took too long')), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** The codes of an error, as a reply has them; `family.code` knows Kafka's among what an error is made of. */
export function failure(family, error) {
  const all = [error]
  for (const one of all) all.push(...(one.errors ?? []), ...(one.cause ? [one.cause] : []))
  const code = all.map(one => family.code(one)).find(code => code > 0)
  return code ? { kafka_error: code } : { client_error: error.code ?? error.name }
}

/** What `make` made of these arguments, once for all requests. */
export function kept(make) {
  const made = new Map()
  return (...args) => {
    const key = JSON.stringify(args)
    if (!made.has(key)) made.set(key, make(...args))
    return made.get(key)
  }
}

const COMMIT_EVERY = 10
const EVENTS_LIMIT = 1000
// The coordinator is loading, not there yet, or another; the group is rebalancing, or went on without this member.
const LIFE_OF_GROUPS = [14, 15, 16, 22, 25, 27, 110, 113]

/** The operations of a member of a group; `join(request, member)` begins it, and gives what ends it. */
export function membership(code, join) {
  let member, leave
  return {
    async join_group(request) {
      member = new Member(code)
      leave = await join(request, member)
    },

    poll_group: async ({ timeout_ms: timeoutMs }) => ({ events: await member.told(timeoutMs) }),

    async leave_group() {
      member.stop()
      await member.commit()
      await leave()
      return { events: await member.told(0) }
    },
  }
}

/** A member of a group: what it has, and what it went through since that was asked for. */
class Member {
  #code
  #events = []
  #signals = new EventEmitter()
  // By partition: the next offset, unknown before the first record.
  #next = new Map()
  #uncommitted = new Map()
  #processed = 0

  /** How the family commits `[[partition, offset], ...]`. */
  send

  /** It processes nothing any more. */
  stopped = false

  constructor(code) {
    this.#code = code
  }

  has(partition) {
    return !this.stopped && this.#next.has(partition)
  }

  partitions() {
    return [...this.#next.keys()]
  }

  assigned(partitions) {
    if (partitions.length === 0) return
    for (const partition of partitions) this.#next.set(partition, undefined)
    this.#tell({ assigned: partitions })
  }

  revoked(partitions) {
    if (partitions.length === 0) return
    for (const partition of partitions) {
      this.#next.delete(partition)
      this.#uncommitted.delete(partition)
    }
    this.#tell({ revoked: partitions })
  }

  /** Waits while the matrix has not come for too many events. */
  async room() {
    while (!this.stopped && this.#events.length >= EVENTS_LIMIT) await once(this.#signals, 'taken')
  }

  /** Processes a record and says true, unless the member has not got the partition, or did it before. */
  process(partition, offset) {
    if (!this.has(partition) || offset < this.#next.get(partition)) return false
    this.#next.set(partition, offset + 1)
    this.#uncommitted.set(partition, offset + 1)
    this.#processed++
    this.#tell({ record: [partition, offset] })
    return true
  }

  /** Commits after each few records. */
  async commitIfDue() {
    if (this.#processed < COMMIT_EVERY) return
    this.#processed = 0
    await this.commit()
  }

  async commit() {
    if (this.#uncommitted.size === 0) return
    const offsets = [...this.#uncommitted]
    this.#uncommitted.clear()
    try {
      await this.send(offsets)
    } catch (error) {
      this.failed(error)
      for (const [partition, offset] of offsets) {
        // Unless it is had anew, or went on.
        if (this.#next.get(partition) === offset) this.#uncommitted.set(partition, offset)
      }
    }
  }

  failed(error) {
    if (LIFE_OF_GROUPS.includes(failure({ code: this.#code }, error).kafka_error)) console.error('group:', error)
    else this.#tell(error)
  }

  stop() {
    this.stopped = true
    this.#signals.emit('taken')
  }

  async told(timeoutMs) {
    if (this.#events.length === 0 && timeoutMs > 0) {
      await once(this.#signals, 'told', { signal: AbortSignal.timeout(timeoutMs) }).catch(() => {})
    }
    const events = this.#events
    this.#events = []
    this.#signals.emit('taken')
    const error = events.find(event => event instanceof Error)
    if (error) throw error
    return events
  }

  #tell(event) {
    this.#events.push(event)
    this.#signals.emit('told')
  }
}

/** BYTES of the README. */
export function data(spec) {
  if (spec == null) return null
  if (spec.text != null) return Buffer.from(spec.text)
  const made = Buffer.alloc(spec.size)
  for (let i = 0; i < spec.size; i++) made[i] = i * 31 + (i >> 8) * 17 + spec.seed * 7
  return made
}

/** A record of a request, with bytes in place of what describes them. */
export function record({ key, value, headers, timestamp }) {
  return {
    key: data(key),
    value: data(value),
    headers: (headers ?? []).map(([name, value]) => [name, data(value)]),
    timestamp,
  }
}

export function digest(bytes) {
  return bytes && { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}
