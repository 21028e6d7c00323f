# SPDX-License-Identifier: BSD-3-Clause
"""Check a file before it replaces the installed version: ``sge_check.py KIND FILE``.

KIND is ``menu``, ``words``, ``announcement``, ``window``, ``drain``, ``broker``, ``settings`` (a
site's own lines of the hub's configuration), or ``inventory`` (several kinds as a JSON object).
``smallest`` prints the smallest choice of a menu. FILE may be
``-`` for standard input. The exit status is 0 for a valid file, 1 for an invalid file, and 2 for
wrong arguments. Standard error lists the mistakes in the file, in the inventory's terms.
"""

from __future__ import annotations

import sys
from pathlib import Path


def check_menu(content: bytes, source: str) -> None:
    """Check a resource menu.

    :raises ValueError: naming every item and value that is wrong.
    """
    from gridhub.menu.file import parse_menu

    parse_menu(content, source)


def print_smallest(content: bytes, source: str) -> None:
    """Print the smallest choice of a menu that everybody may make, as JSON, for the smoke test.

    :raises ValueError: when the menu or its defaults cannot be used.
    """
    import json

    from gridhub.menu.file import parse_menu

    print(json.dumps(parse_menu(content, source).smallest().values))


def check_words(content: bytes, source: str) -> None:
    """Check a site's sentences; print all sentences that people will see, as JSON.

    :raises ValueError: naming the sentence that is wrong.
    """
    import json

    from gridhub.words import read_own, with_site

    print(json.dumps(with_site(read_own(), json.loads(content))))


def check_announcement(content: bytes, source: str) -> None:
    """Check an announcement by the administrators.

    :raises ValueError: naming the value that is wrong.
    """
    from gridhub.notices.announcement import parse_announcement

    parse_announcement(content)


def check_window(content: bytes, source: str) -> None:
    """Check the next maintenance window of the workers.

    :raises ValueError: naming the value that is wrong.
    """
    from gridhub.notices.next_maintenance import parse_window

    parse_window(content)


def check_drain(content: bytes, source: str) -> None:
    """Check a time in which no session may start.

    :raises ValueError: naming the value that is wrong.
    """
    from gridhub.notices.drain import parse_drain

    parse_drain(content)


def check_broker(content: bytes, source: str) -> None:
    """Check the broker's settings.

    :raises ValueError: naming every value that is wrong.
    """
    from gridhub.broker.config import parse_config

    parse_config(content)


def check_settings(content: bytes, source: str) -> None:
    """Check the names of the settings in a site's own lines of the hub's configuration.

    :raises ValueError: naming every setting that cannot take effect.
    """
    from gridhub.hub.read_settings import check_lines

    check_lines(content.decode())


def check_inventory(content: bytes, source: str) -> None:
    """Check the contents of several files, which are the values of an object whose keys are kinds.

    :raises ValueError: naming the mistakes in the first wrong file.
    """
    import json

    for kind, each in json.loads(content).items():
        CHECKS[kind](json.dumps(each).encode(), source)


#: The checks by kind. Each check imports only the modules that it needs, because the words are
#: checked on a machine without the hub's packages.
CHECKS = {
    "menu": check_menu,
    "smallest": print_smallest,
    "words": check_words,
    "announcement": check_announcement,
    "window": check_window,
    "drain": check_drain,
    "broker": check_broker,
    "settings": check_settings,
    "inventory": check_inventory,
}


def main() -> int:
    """Check one file, and return the exit status."""
    if len(sys.argv) != 3 or sys.argv[1] not in CHECKS:
        print(f"usage: sge_check.py {'|'.join(CHECKS)} FILE", file=sys.stderr)
        return 2
    kind, path = sys.argv[1:]
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        print(f"{path} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    try:
        CHECKS[kind](content, "The menu in the inventory" if path == "-" else path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
