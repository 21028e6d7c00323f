# SPDX-License-Identifier: BSD-3-Clause
"""The starter inside the job: the job script runs the starter, and the starter runs JupyterLab.

The starter reads and deletes the file with the session's secrets, binds a socket to a port in the
allowed range, starts the server on this socket, and only then reports the port to the hub.
Therefore, no other user can take the port before the server uses it, and the hub never learns of a
port that does not answer yet.
"""

from __future__ import annotations

import sys

from gridhub.session.server import main

if __name__ == "__main__":
    sys.exit(main())
