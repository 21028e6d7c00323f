// Loaded into configurable-http-proxy before its own program.
//
// Its API is reached from the cluster's network. Node waits two minutes for a TLS handshake and five for a
// request, and takes as many connections as come. Only the hub has a certificate that is good here: what has
// shown it is not counted.
"use strict";

const https = require("node:https");

// In milliseconds.
const HANDSHAKE_WITHIN = 10_000;
const REQUEST_WITHIN = 15_000;
// Connections without a certificate yet: of one address, and of all.
const WAITING_EACH = 64;
const WAITING_ALL = 1024;

const { createServer } = https;

https.createServer = (options, listener) => {
  const settings = { handshakeTimeout: HANDSHAKE_WITHIN, requestTimeout: REQUEST_WITHIN };
  const server = createServer({ ...options, ...settings, headersTimeout: REQUEST_WITHIN }, listener);
  const waiting = new Map();
  const handshakes = new Map();
  const name = (socket) => `${socket.remoteAddress} ${socket.remotePort}`;
  // Before Node's own listener, which begins the handshake.
  server.prependListener("connection", (socket) => {
    const from = socket.remoteAddress;
    const each = waiting.get(from) ?? 0;
    if (each >= WAITING_EACH || handshakes.size >= WAITING_ALL) return socket.destroy();
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
