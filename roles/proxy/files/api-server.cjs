// Loaded into configurable-http-proxy before its own program.
//
// The API can be reached from the cluster's network. Node waits two minutes for a TLS handshake and five for a
// request, and accepts any number of connections. Here, connections are counted until they have presented the
// hub's certificate. Those from the hub's host are counted separately, so that no other host can lock out the hub.
"use strict";

const dns = require("node:dns");
const https = require("node:https");

// In milliseconds.
const HANDSHAKE_WITHIN = 10_000;
const REQUEST_WITHIN = 15_000;
// Most connections that have not presented a certificate yet: of one address, of all, and of the hub.
const WAITING_EACH = 64;
const WAITING_ALL = 1024;
const WAITING_HUB = 512;

const hub = new Set();
dns.lookup(process.env.GRIDHUB_HUB_HOST ?? "localhost", { all: true }, (error, found) => {
  for (const { address } of found ?? []) hub.add(source(address));
});

// All loopback addresses count as one host, and so does a whole IPv6 network (/64).
function source(address) {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "");
  if (/^(127\.|::1$)/.test(plain)) return "loopback";
  return plain.includes(":") ? plain.split("::")[0].split(":").slice(0, 4).join(":") : plain;
}

const { createServer } = https;

https.createServer = (options, listener) => {
  const settings = { handshakeTimeout: HANDSHAKE_WITHIN, requestTimeout: REQUEST_WITHIN };
  const server = createServer({ ...options, ...settings, headersTimeout: REQUEST_WITHIN }, listener);
  const waiting = new Map();
  const handshakes = new Map();
  const name = (socket) => `${socket.remoteAddress} ${socket.remotePort}`;
  // Runs before Node's own listener, which starts the handshake.
  server.prependListener("connection", (socket) => {
    const from = source(socket.remoteAddress ?? "");
    const each = waiting.get(from) ?? 0;
    const others = handshakes.size - [...hub].reduce((sum, of) => sum + (waiting.get(of) ?? 0), 0);
    const isFull = hub.has(from)
      ? each >= WAITING_HUB
      : each >= WAITING_EACH || others >= WAITING_ALL;
    if (isFull) return socket.destroy();
    waiting.set(from, each + 1);
    const id = name(socket);
    const done = () => {
      socket.off("close", done);
      handshakes.delete(id);
      if (waiting.get(from) > 1) waiting.set(from, waiting.get(from) - 1);
      else waiting.delete(from);
    };
    socket.on("close", done);
    handshakes.set(id, done);
  });
  server.on("secureConnection", (socket) => handshakes.get(name(socket))?.());
  return server;
};
