// Loaded into configurable-http-proxy before its own program.
//
// Node checks a server's certificate against the Host header of the request, which is what the browser
// has typed and says nothing of the server. Here it is checked against the name of the session, which the
// hub writes into the session's route (https://SESSION@worker:port), or the server's own name.
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
