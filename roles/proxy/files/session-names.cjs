// Loaded into configurable-http-proxy before its own program.
//
// Node checks a server's certificate against the Host header of the request. That header has the name in the
// browser's address bar, not the name of the server. Here, the certificate is checked against the name of the
// session, which the hub writes into the route (https://SESSION@worker:port), or against the server's own name.
"use strict";

const https = require("node:https");
const { isIP } = require("node:net");

const { addRequest } = https.Agent.prototype;

https.Agent.prototype.addRequest = function (request, options, ...rest) {
  const session = options.url ? new URL(options.url).username : "";
  const host = options.hostname || options.host;
  const servername = session ? `${session}.session` : isIP(host) ? "" : host;
  return addRequest.call(this, request, { ...options, servername }, ...rest);
};
