// What the drivers of Node.js families share: see ../README.md.
import { createHash } from 'node:crypto'
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
