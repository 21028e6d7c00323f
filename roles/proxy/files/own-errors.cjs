// Loaded into configurable-http-proxy before its own program.
//
// If a session or the hub does not answer, the proxy sends a page. JupyterLab and other programs cannot show a page, so
// they get JSON here, with a message. nginx decides for each request and says so in a header. Node's own errors have no
// text at all; here, they have a message too. All messages are in errors.json.
"use strict";

const http = require("node:http");
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const httpProxy = createRequire(process.argv[1])("http-proxy-3");

const FORM = "x-error-form";
const MESSAGES = JSON.parse(readFileSync(join(__dirname, "errors.json")));
// In milliseconds. Node's own limit of five minutes is too short to save a large notebook over a slow line. nginx, in
// front, limits how long a client may pause.
const REQUEST_WITHIN = 3_600_000;
const RETRY_AFTER = "15";
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const isJson = new WeakSet();
const isSessions = new WeakSet();
const isUpgraded = new WeakSet();

function remember(request) {
  const form = request.headers[FORM] ?? "";
  if (form.startsWith("json")) isJson.add(request);
  if (form.endsWith("1")) isSessions.add(request);
}

function isReadable(request) {
  try {
    decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    return true;
  } catch {
    return false;
  }
}

// The hub answers requests for sessions that are not running, but it reads no more than this of their bodies, in bytes
// (MAX_STRAY_BODY in gridhub/hub/server.py). Node reads the rest of a body after the answer, so the answer arrives.
const MAX_STRAY_BODY = 65_536;

function isLong(request) {
  return "transfer-encoding" in request.headers || Number(request.headers["content-length"] ?? 0) > MAX_STRAY_BODY;
}

function written(status, message) {
  const body = JSON.stringify({ status, message, source: "configurable-http-proxy" });
  const headers = {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
  };
  if (status === 503) headers["Retry-After"] = RETRY_AFTER;
  return { body, headers };
}

function send(answer, status, message) {
  const { body, headers } = written(status, message);
  answer.writeHead(status, headers).end(body);
}

/** Send an answer on a connection that has no answer object, and close the connection. */
function sendRaw(socket, status, message) {
  const { body, headers } = written(status, message);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const first = `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n`;
  socket.end(`${first}${lines.join("")}Connection: close\r\n\r\n${body}`);
}

const { createServer } = http;

http.createServer = (options, listener) => {
  if (!listener) return createServer(options);
  const server = createServer({ ...options, requestTimeout: REQUEST_WITHIN }, (request, answer) => {
    remember(request);
    if (isReadable(request)) listener(request, answer);
    else if (isJson.has(request)) send(answer, 400, MESSAGES[400]);
    else {
      const headers = { "Content-Type": "text/html", "Content-Security-Policy": POLICY };
      answer.writeHead(400, headers).end(readFileSync(join(__dirname, "400.html")));
    }
  });
  server.on("upgrade", (request, socket) => {
    remember(request);
    if (!isReadable(request)) sendRaw(socket, 400, MESSAGES[400]);
  });
  server.on("clientError", (error, socket) => {
    const status = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }[error.code] ?? 400;
    // Nothing can be added to an answer that has begun.
    if (socket.writable && !socket._httpMessage?.headersSent) sendRaw(socket, status, MESSAGES[status]);
    else socket.destroy();
  });
  return server;
};

const { createProxyServer } = httpProxy;

httpProxy.createProxyServer = (options) => {
  const proxy = createProxyServer(options);
  proxy.on("proxyReqWs", (upstream, request, client) => {
    upstream.prependOnceListener("upgrade", () => isUpgraded.add(client));
  });
  for (const kind of ["web", "ws"]) {
    const pass = proxy[kind];
    proxy[kind] = function (request, answer, ...rest) {
      const fail = rest.pop();
      // Only the address of a session has a name before the host (session-names.cjs).
      const isRouted = rest.at(-1).target.username;
      if (kind === "web" && !isRouted && isJson.has(request) && isSessions.has(request) && isLong(request)) {
        return send(answer, 424, MESSAGES.ended);
      }
      const message = MESSAGES[isRouted ? "session" : "hub"];
      return pass.call(this, request, answer, ...rest, (error, ...more) => {
        if (kind === "ws") {
          if (isUpgraded.has(answer)) answer.end();
          else if (answer.writable) sendRaw(answer, 503, message);
        } else if (!answer.headersSent) {
          answer.setHeader("Retry-After", RETRY_AFTER).setHeader("Content-Security-Policy", POLICY);
          if (isJson.has(request)) {
            options.log.error("503 %s %s %s", request.method, request.url.split("?", 1)[0], error.message);
            return send(answer, 503, message);
          }
        }
        // Writes the log, and the page; after the end of a websocket's answer, it writes no more.
        return fail(error, ...more);
      });
    };
  }
  return proxy;
};
