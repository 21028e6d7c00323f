# SPDX-License-Identifier: BSD-3-Clause
"""End idle sessions: jupyterhub-idle-culler, without its token in the log.

If the hub does not answer, the culler's log would show its whole call, with the token.
"""

from __future__ import annotations

import logging

from jupyterhub_idle_culler import main


def without_call(record: logging.LogRecord) -> bool:
    """Replace the message about a failed call; keep the traceback, which shows no values."""
    if record.args:
        record.msg, record.args = "Cannot look for idle sessions now", ()
    return True


if __name__ == "__main__":
    logging.getLogger("tornado.application").addFilter(without_call)
    main()
