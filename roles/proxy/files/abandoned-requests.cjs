// Loaded into configurable-http-proxy before its own program.
//
// http-proxy-3 looks after a request to upgrade only once it is upgraded. Until then nobody notices a client
// that has gone: its connection to the hub or the session stays for ever. An answer that is no upgrade is
// written whether or not the client reads it, and held in memory. Ordinary requests have neither fault; but the
// client of an answer that is cut short waits for the rest of it.
//
// tests/security/test_proxy_library.py shows when a newer release makes this file unnecessary.
"use strict";

const { createRequire } = require("node:module");

const httpProxy = createRequire(process.argv[1])("http-proxy-3");

// How long a websocket's far end may take to close after its client has, in milliseconds.
const CLOSE_WITHIN = 10_000;

const { createProxyServer } = httpProxy;

httpProxy.createProxyServer = (options) => {
  const proxy = createProxyServer(options);
  proxy.on("proxyReqWs", (upstream, request, client) => guard(upstream, client));
  proxy.on("proxyRes", (answer, request, client) => {
    answer.on("close", () => answer.complete || client.destroy());
  });
  // With no listener of ours it throws what goes wrong at a client's socket, and the proxy ends.
  proxy.on("error", (error) => options.log.info("A client's connection broke: %s", error.message));
  return proxy;
};

function guard(upstream, client) {
  const abandon = () => upstream.destroy();
  // Only who reads sees that the client has gone. It sends nothing before the answer (RFC 6455, 4.1).
  const giveUp = () => client.destroy();
  const settle = () => {
    client.off("data", giveUp).off("end", giveUp).off("close", abandon);
  };
  if (client.destroyed) return abandon();
  client.on("data", giveUp).on("end", giveUp).on("close", abandon);

  upstream.prependOnceListener("upgrade", (answer, far) => {
    settle();
    if (client.destroyed) return far.destroy();
    const close = () => [far, client].forEach((socket) => socket.destroy());
    for (const event of ["end", "close"]) {
      client.once(event, () => setTimeout(close, CLOSE_WITHIN).unref());
    }
  });

  upstream.prependOnceListener("response", (answer) => {
    const pause = () => client.writableNeedDrain && answer.pause();
    answer.on("data", pause);
    client.on("drain", () => answer.resume());
    // Cut short, it has no end, and the library waits for one.
    answer.on("close", () => client.destroySoon());
  });
}
