// Loaded into configurable-http-proxy before its own program.
//
// The proxy keeps connections to the hub and to sessions open for the next request, until the other end closes
// them. A request that is sent at that moment is lost. Here, the proxy closes them first, long before the hub
// and the sessions do (files/gridhub/bounded_server.py), so connections left by a flood are soon gone too.
"use strict";

const https = require("node:https");

// In milliseconds.
const KEPT_FOR = 15_000;

const { keepSocketAlive } = https.Agent.prototype;

https.Agent.prototype.keepSocketAlive = function (socket) {
  const isKept = keepSocketAlive.call(this, socket);
  // Node closes a connection that is unused for this long.
  if (isKept) socket.setTimeout(KEPT_FOR);
  return isKept;
};
