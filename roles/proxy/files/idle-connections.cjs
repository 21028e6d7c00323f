// Loaded into configurable-http-proxy before its own program.
//
// It keeps the connections to the hub and to sessions for the next request, until they are closed at the other
// end. A request that is sent just then is lost. Here they are closed first, long before the hub and sessions
// do so (files/sge_doors.py), and whatever a flood has left is gone soon.
"use strict";

const https = require("node:https");

// In milliseconds.
const KEPT_FOR = 15_000;

const { keepSocketAlive } = https.Agent.prototype;

https.Agent.prototype.keepSocketAlive = function (socket) {
  const isKept = keepSocketAlive.call(this, socket);
  // Node closes one that nobody uses when its time is over.
  if (isKept) socket.setTimeout(KEPT_FOR);
  return isKept;
};
