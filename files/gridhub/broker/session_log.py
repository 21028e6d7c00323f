# SPDX-License-Identifier: BSD-3-Clause
"""Read the last lines of a session's log in the person's home, as the person.

The person owns the folder and can put anything in the log's place. So only a plain file of the
person's own is read, and only a small part of it. Secrets and control characters are removed before
the lines leave the person's account.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path

#: Time limit for reading a log, in seconds. A page waits for it.
LOG_TIMEOUT = 5.0

#: How many bytes to read from the end of a log, and how much of them to return at most.
MAX_READ = 16_384
MAX_LINES = 20
MAX_LINE = 300

#: What stands in the place of a removed secret.
HIDDEN = "[hidden]"

#: Sequences with which a terminal changes colours, titles and links (ECMA-48).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")

_SECRETS = (
    # Keys and certificates: PEM as a whole, and lines that belong to one that is cut off.
    (re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"^.*?-----END [^-]*-----", re.DOTALL), HIDDEN),
    (re.compile(r"^[ \t]*[A-Za-z0-9+/]{40,}={0,2}[ \t]*$", re.MULTILINE), HIDDEN),
    # The user and the password in an address.
    (re.compile(r"(?<=://)[^\s/@]+@"), f"{HIDDEN}@"),
    # "Authorization: token 1234", "Cookie: a=b; c=d": all that follows may be secret.
    (re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(['\"]?\s*[:=]\s*).*"), None),
    # "JUPYTERHUB_API_TOKEN=1234", "?token=1234", "'password': '1234'".
    (
        re.compile(
            r"(?i)([\w-]{0,40}(?:token|passwor[dt]|passwd|passphrase|secret|api[_-]?key|_xsrf)"
            r"[\w-]{0,40})(['\"]?[ \t]*[:=][ \t]*['\"]?)[^\s'\"&;,)}\]]+"
        ),
        None,
    ),
    (re.compile(r"(?i)\b(bearer|token)([ \t]+)(?=\S*\d)[\w.~+/=-]{8,}"), None),
    # JupyterHub's tokens and names, and other long numbers; signed tokens (JWT).
    (re.compile(r"[0-9A-Fa-f]{32,}"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{1,2000}\.[\w-]+(?:\.[\w-]*)?"), HIDDEN),
)


def _without_secrets(text: str) -> str:
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement or rf"\1\2{HIDDEN}", text)
    return text


def _is_harmless(character: str) -> bool:
    # Categories that begin with C: control and format characters, which can for example change the
    # direction of text, surrogates, and characters without a meaning.
    return character in "\n\t" or not unicodedata.category(character).startswith("C")


def readable_lines(data: bytes, *, is_cut: bool) -> str:
    """Return the last lines of a log as text that a page can show.

    :param is_cut: whether the log has more bytes before these. Their first word may then be the
        end of a secret, so it is removed.
    """
    text = data.decode("utf-8", "replace")
    if is_cut:
        _, _, text = text.partition("\n") if "\n" in text.rstrip("\n") else text.partition(" ")
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    text = _without_secrets("".join(filter(_is_harmless, text)))
    lines = [line.rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line][-MAX_LINES:]
    return "\n".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…" for line in lines)


def read_log(folder: Path, job: int) -> str | None:
    """Return the last lines of a job's log; ``None`` if there is no such log.

    :param folder: the folder for session files in the person's home.
    :raises OSError: when the log cannot be read, or is not a plain file of the person's own.
    """
    name = f"{job}.log"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        place = os.open(folder, flags | os.O_DIRECTORY)
        try:
            # O_NONBLOCK: do not wait for the other end of a FIFO, nor for a device.
            log = os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=place)
        finally:
            os.close(place)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(log)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            raise OSError(f"{name} is not a plain file of this account")
        start = max(status.st_size - MAX_READ, 0)
        return readable_lines(os.pread(log, MAX_READ, start), is_cut=start > 0)
    finally:
        os.close(log)
