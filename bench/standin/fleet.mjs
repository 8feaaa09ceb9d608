/*
 * Many JT-Trader servers in one process, for measuring: npm's socket.io, as JT-Trader has it.
 *
 * Each server listens on a loopback address of its own, all of them on one port: no port is scarce,
 * and a process needs one descriptor a server and one a connection.  It speaks what plan, apply and
 * controller need and counts what it was asked.  It answers at once and injects no faults: the truth
 * for tests is reconciler/sandbox/jt_trader, with which tests/bench compares it.
 *
 * Arguments: one JSON object, see `options`.  It ends when its standard input does.
 */

import http from "node:http";
import net from "node:net";
import { Server } from "socket.io";

const options = {
  first: 0, // number of its first server
  count: 1,
  port: 0, // 0: any that is free on its first address
  control: 0, // port of the counters, on 127.0.0.1
  additional: ["kucoin", "kucoinfutures", "mexc"],
  robots: 2, // of each server
  running: false, // whether they trade
  logEntries: 30,
  status: 300, // seconds between two status entries of a server
  ...JSON.parse(process.argv[2] ?? "{}"),
};

const MAIN = [
  ["gateio", "Gate.io", [["gateio_api_key", "API Key"], ["gateio_api_secret", "API Secret"], ["gateio_user_id", "User ID"]]],
  ["bybit", "Bybit", [["bybit_api_key", "API Key"], ["bybit_api_secret", "API Secret"]]],
  ["okx", "OKX", [["okx_api_key", "API Key"], ["okx_api_secret", "API Secret"], ["okx_password", "Password"]]],
  ["bybit-testnet", "Bybit Testnet", [["bybit_testnet_api_key", "API Key"], ["bybit_testnet_api_secret", "API Secret"]]],
  ["gateio-mock", "Gate.io Mock", []],
];
const WITH_PASSWORD = new Set(["kucoin", "kucoinfutures", "bitget", "okxus"]);
const ADDITIONAL = [...options.additional].sort().map((code) => [
  code,
  [[`${code}_api_key`, "apiKey"], [`${code}_secret`, "secret"]].concat(
    WITH_PASSWORD.has(code) ? [[`${code}_password`, "password"]] : [],
  ),
]);
const TESTER = {
  start: "2025-10", end: "2026-10", marketOrderSpread: 0.0001, makerFee: 0.0002, takerFee: 0.0004,
  defaultLeverage: 50, timeframe: 1, hedgeMode: true, symbols: ["LTC/USDT", "SOL/USDT", "XRP/USDT"],
  exchange: "gateio", balance: 1000,
};
const READS = {
  "exchange-config-request": "lists",
  "engine-config-request": "versions",
  "background-jobs-list-request": "robots",
  "logs-list-request": "logs",
};

// ── one server ──────────────────────────────────────────────────────────────────────────────

const mask = (value) => (value ? `${value.slice(0, 3)}•••••${value.slice(-3)}` : "");
const now = () => (performance.timeOrigin + performance.now()) / 1000;

class Trader {
  constructor(number) {
    this.number = number;
    this.address = addressOf(number);
    this.secret = null; // none is right until it was told
    this.rows = new Map();
    this.robots = Array.from({ length: options.robots }, (_, one) => robot(one + 1, ["bybit", "okx"][one % 2]));
    this.registered = null;
    this.sockets = new Set();
    this.log = [];
    this.boot(Date.now() - 3_600_000 + number * 7); // no two servers boot in the same millisecond
    for (let entry = this.log.length; entry < options.logEntries; entry++) this.status();
    this.reset();
  }

  reset() {
    this.counts = {
      connections: 0, http: 0, requests: 0, lists: 0, versions: 0, robots: 0, logs: 0,
      saves: 0, rows: 0, deletes: 0, turns: 0, invalidations: 0, reboots: 0, refused: 0, fatal: 0,
    };
    this.firstList = 0; // when, in seconds since 1970
    this.firstSave = 0;
    this.lastSave = 0;
  }

  note(level, what, msg, keys = {}, time = Date.now()) {
    this.log.push({ level, time, pid: 20 + (this.number % 1000), class: what, ...keys, msg });
  }

  boot(time = Date.now()) {
    this.note("info", "PrismaDriver", "Cache PrismaDriver selected", {}, time);
    this.note("info", "NestFactory", "Starting Nest application...", {}, time + 400);
    this.note("info", "InstanceLoader", "AppModule dependencies initialized", {}, time + 401);
    this.note("info", "WebSocketsController", 'EventsGateway subscribed to the "message" message', {}, time + 700);
    this.note("info", "NestApplication", "Nest application successfully started", {}, time + 900);
  }

  status() {
    const ip = `198.51.100.${(this.number % 250) + 1}`;
    const Proxy = [{ url: "https://icanhazip.com", ip }, { url: "https://ipinfo.io/ip", ip }];
    this.note("info", "MonitoringService", "App STATUS", { DataFeedFactory: [], Proxy });
    if (this.log.length > 2 * options.logEntries) this.log.splice(5, 1); // bounded; the boot stays
  }

  list() {
    const field = ([name, label], additional) => {
      const value = mask(this.rows.get(name));
      return additional ? { name, label, type: "string", value } : { name, type: "string", label, value };
    };
    const full = (fields) => fields.every(([name]) => this.rows.get(name));
    const main = MAIN.map(([code, name, fields]) => ({
      code, name, disabled: false, sandbox: code.endsWith("-testnet"),
      fields: fields.map((one) => field(one, false)), connected: full(fields),
    }));
    const additional = [];
    for (const [code, fields] of ADDITIONAL) {
      const added = fields.every(([name]) => this.rows.has(name));
      (added ? main : additional).push({
        code, name: code, added, connected: full(fields), sandbox: false, disabled: false,
        fields: fields.map((one) => field(one, true)),
      });
    }
    return { main, additional };
  }

  jobs() {
    return this.robots.map((one) => ({ ...one }));
  }
}

function robot(id, exchange) {
  const when = "2026-11-22T07:48:04.868Z";
  return {
    id, accountId: "0", name: `grid-${id}`, prefix: "p1", strategy: { id: "dummy", name: "dummy", type: "local", path: "dummy.js" },
    strategyId: "dummy", strategyType: "local", strategyPath: "dummy.js", args: [{ key: "marketType", value: "swap" }],
    runtimeType: "market", createdAt: when, updatedAt: when, exchange, marketType: "swap",
    artifacts: String(id).padStart(32, "0"), isEnabled: options.running,
  };
}

function addressOf(number) {
  return `127.1.${Math.floor(number / 250)}.${(number % 250) + 1}`;
}

// ── what it is asked ────────────────────────────────────────────────────────────────────────

function say(socket, event, ...payload) {
  socket.emit("message", payload.length ? { event, payload: payload[0] } : { event });
}

function connected(trader, socket) {
  trader.counts.connections++;
  trader.sockets.add(socket);
  socket.on("disconnect", () => {
    trader.sockets.delete(socket);
    trader.registered = null;
  });
  socket.on("message", (body) => received(trader, socket, body));
  socket.data.in = socket.handshake.auth?.accessSecret === trader.secret;
  logIn(trader, socket);
}

function logIn(trader, socket) {
  if (!socket.data.in) {
    trader.counts.refused++;
    say(socket, "unauthorized", { code: 4002 });
    return;
  }
  trader.registered = socket;
  say(socket, "authenticated", { id: "0", email: "Incognito", developerAccess: true, engineMode: "both" });
}

// Like the real server: no answer, and every robot stops.  A measurement with one is void.
function fatal(trader) {
  trader.counts.fatal++;
  for (const one of trader.robots) one.isEnabled = false;
  trader.note("error", "MainProcessExceptionHandler", "TypeError: made by a request");
}

function received(trader, socket, body) {
  const { event, payload } = body ?? {};
  const counts = trader.counts;
  counts.requests++;
  if (READS[event]) counts[READS[event]]++;
  if (!body) return fatal(trader);
  if (!socket.data.in) logIn(trader, socket);
  switch (event) {
    case "engine-config-request":
      return say(socket, "engine-config-response", { version: "0.24.19", testerDefaults: TESTER });
    case "logs-list-request":
      return say(socket, "logs-list-response", { artifacts: payload, data: payload === "system" ? trader.log : [] });
    case "invalidate-cache-request":
      counts.invalidations++;
      return say(socket, "invalidate-cache-response");
    case "reboot-system-request":
      counts.reboots++;
      return reboot(trader);
    case "exchange-config-request":
    case "exchange-config-save":
    case "exchange-config-delete":
    case "background-jobs-list-request":
    case "run-background-job-request":
    case "stop-background-job-request":
      break;
    default:
      return; // ignored in silence
  }
  if (!socket.data.in) return fatal(trader);
  switch (event) {
    case "exchange-config-request":
      trader.firstList ||= now();
      return say(socket, "exchange-config-response", trader.list());
    case "exchange-config-save":
      return save(trader, socket, payload);
    case "exchange-config-delete":
      return remove(trader, socket, payload);
    case "background-jobs-list-request":
      return say(socket, "background-jobs-list-response", trader.jobs());
    default:
      return turn(trader, socket, payload, event.startsWith("run"));
  }
}

function save(trader, socket, rows) {
  trader.counts.saves++;
  if (!Array.isArray(rows)) return fatal(trader);
  for (const row of rows) {
    const usable = row && typeof row.name === "string" && typeof row.value === "string";
    if (!usable || (typeof row.type !== "string" && !trader.rows.has(row.name))) return fatal(trader);
    trader.rows.set(row.name, row.value);
    trader.counts.rows++;
  }
  trader.lastSave = now();
  trader.firstSave ||= trader.lastSave;
  return say(socket, "exchange-config-response", trader.list());
}

function remove(trader, socket, names) {
  trader.counts.deletes++;
  if (!Array.isArray(names)) return fatal(trader);
  for (const name of names) if (!trader.rows.delete(name)) return fatal(trader);
  return say(socket, "exchange-config-response", trader.list());
}

function turn(trader, socket, id, runs) {
  trader.counts.turns++;
  if (!Number.isInteger(id)) return fatal(trader);
  for (const one of trader.robots) if (one.id === id) one.isEnabled = runs;
  return say(socket, "background-jobs-list-response", trader.jobs());
}

function reboot(trader) {
  for (const one of trader.robots) one.isEnabled = false;
  setTimeout(() => {
    for (const socket of trader.sockets) socket.conn.transport.socket?.terminate?.();
    trader.boot();
  }, 250);
}

// ── the network ─────────────────────────────────────────────────────────────────────────────

const traders = new Map();
for (let number = options.first; number < options.first + options.count; number++) {
  const trader = new Trader(number);
  traders.set(trader.address, trader);
}

const web = http.createServer((request, response) => {
  traders.get(request.socket.localAddress).counts.http++;
  response.setHeader("content-type", "text/html");
  response.end("<!doctype html><title>JT-Trader</title>");
});
const io = new Server(web, { serveClient: false, pingInterval: 25_000, pingTimeout: 20_000, maxHttpBufferSize: 1_000_000 });
io.on("connection", (socket) => connected(traders.get(socket.request.socket.localAddress), socket));

async function listen() {
  let port = options.port;
  for (const address of traders.keys()) {
    const door = net.createServer((socket) => web.emit("connection", socket));
    await new Promise((resolve, reject) => {
      door.once("error", reject);
      door.listen({ host: address, port, backlog: 16 }, resolve);
    });
    port ||= door.address().port;
  }
  return port;
}

// A part of the servers each second, so that all have written one after `status` seconds.
let tick = 0;
setInterval(() => {
  tick++;
  for (const trader of traders.values()) {
    if ((trader.number + tick) % options.status) continue;
    trader.status();
    for (const socket of trader.sockets) say(socket, "update-report", { artifacts: "system" });
  }
}, 1000).unref();

// ── the counters ────────────────────────────────────────────────────────────────────────────

function totals() {
  const sum = { open: io.engine.clientsCount, rss: process.memoryUsage().rss, cpu: process.cpuUsage() };
  for (const trader of traders.values()) {
    for (const [key, value] of Object.entries(trader.counts)) sum[key] = (sum[key] ?? 0) + value;
  }
  return sum;
}

const each = (what) => [...traders.values()].map(what);
const CONTROL = {
  "/totals": totals,
  "/each": () => each((trader) => ({
    ...trader.counts, open: trader.sockets.size, firstList: trader.firstList,
    firstSave: trader.firstSave, lastSave: trader.lastSave,
  })),
  "/rows": () => each((trader) => Object.fromEntries(trader.rows)),
  "/reset": () => each((trader) => trader.reset()).length,
  // {number: {secret, rows}}: what a server accepts, and what stands in it
  "/set": (body) => {
    for (const [number, { secret, rows }] of Object.entries(body)) {
      const trader = traders.get(addressOf(Number(number)));
      if (secret !== undefined) trader.secret = secret;
      if (rows !== undefined) trader.rows = new Map(Object.entries(rows));
    }
    return Object.keys(body).length;
  },
};

const control = http.createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = parts.length ? JSON.parse(Buffer.concat(parts)) : null;
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(CONTROL[request.url](body)));
});

const port = await listen();
await new Promise((resolve) => control.listen({ host: "127.0.0.1", port: options.control }, resolve));
console.log(JSON.stringify({ port, control: control.address().port }));
process.stdin.on("end", () => process.exit(0)).resume();
