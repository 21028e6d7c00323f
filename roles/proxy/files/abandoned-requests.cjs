// Loaded into configurable-http-proxy before its own program.
//
// http-proxy-3 watches an upgrade request only after the upgrade. Until then it does not notice that a client
// has gone, and the connection to the hub or the session stays open for ever. If the answer is not an upgrade,
// the library writes it whether or not the client reads it, and keeps it in memory. Ordinary requests have
// neither fault, but if an answer is cut short, the client waits for the rest of it.
//
// tests/security/test_proxy_library.py shows when a newer release makes this file unnecessary.
"use strict";

const { createRequire } = require("node:module");

const httpProxy = createRequire(process.argv[1])("http-proxy-3");

// The far end of a websocket must close this long after the client has closed, in milliseconds.
const CLOSE_WITHIN = 10_000;

const { createProxyServer } = httpProxy;

httpProxy.createProxyServer = (options) => {
  const proxy = createProxyServer(options);
  proxy.on("proxyReqWs", (upstream, request, client) => guard(upstream, client));
  proxy.on("proxyRes", (answer, request, client) => {
    answer.on("close", () => answer.complete || client.destroy());
  });
  // Without a listener, the library throws errors on a client's socket, and the proxy exits.
  proxy.on("error", (error) => options.log.info("A client's connection broke: %s", error.message));
  return proxy;
};

function guard(upstream, client) {
  const abandon = () => upstream.destroy();
  // Only reading shows that the client has gone. Clients send no data before the answer (RFC 6455, 4.1).
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
    // An answer that is cut short has no "end" event, and the library waits for one.
    answer.on("close", () => client.destroySoon());
  });
}
