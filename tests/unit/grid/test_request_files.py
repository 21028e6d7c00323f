# SPDX-License-Identifier: BSD-3-Clause
"""How request files of qsub are parsed, and what they may change in a session.

All answers were seen with qsub 8.1.9.
"""

from __future__ import annotations

import pytest

from gridhub.grid.request_files import (
    Option,
    find_hindrance,
    hard_resources,
    in_effect,
    overrides,
    parse_options,
    suspects,
)

ARGUMENTS = ("-terse", "-N", "jupyterhub-a", "-S", "/usr/bin/env", "-w", "e", "-pe", "smp", "1")


def parse(text: str) -> list[Option]:
    return in_effect(parse_options(text, "/f"))


def shown(text: str) -> list[str]:
    return [str(option) for option in parse(text)]


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "options"),
        [
            ("", []),
            ("# -h", []),
            ("#$ -h\n\n", []),
            ("-h # -t 1-3", ["-h"]),
            ("-A 'a # b' -h", ["-A a"]),
            ("-A 'account of x' -r y", ["-A account of x", "-r y"]),
            ("-v A=\"b c\",D='e'", ["-v A=b c,D=e"]),
            ("-A 'open -h", ["-A open -h"]),
            ("-pe smp 1-4 -h", ["-pe smp 1-4", "-h"]),
            ("-binding pe linear:1 -h", ["-binding pe linear:1", "-h"]),
            ("-binding linear:1 -h", ["-binding linear:1", "-h"]),
            ("-P -h", ["-P -h"]),
            ("-P", ["-P"]),
            ("-A\\\n-h", ["-A\\", "-h"]),
            ("garbage -h", ["garbage", "-h"]),
            ("-P p\r\n-h\r\n", ["-P p", "-h"]),
            ("-js 1\0-h", ["-js 1"]),
            ("-q a -l b -h -clear -P p", ["-P p"]),
            ("-sync y -clear", ["-sync y"]),
            ("-b y -now y -clear", ["-b y"]),
        ],
    )
    def test_the_options_are_those_that_qsub_sees(self, text: str, options: list[str]) -> None:
        assert shown(text) == options

    def test_each_option_has_its_line(self) -> None:
        found = parse("# mine\n\n-P p -q q\n-h\n")
        assert [(each.name, each.line, each.path) for each in found] == [
            ("-P", 3, "/f"),
            ("-q", 3, "/f"),
            ("-h", 4, "/f"),
        ]

    @pytest.mark.parametrize("text", [" ", "\t \n", "  # indented\n"])
    def test_a_line_at_which_qsub_crashes_is_an_option_without_a_name(self, text: str) -> None:
        (option,) = parse(text)
        assert (option.name, option.line) == ("", 1)
        assert find_hindrance([option], ()) is None

    def test_soft_requests_end_with_their_line(self) -> None:
        found = parse("-soft -l a=1 -hard -l b=1\n-l c=1\n")
        assert hard_resources(found) == ["-l", "b=1", "-l", "c=1"]


class TestHindrance:
    @pytest.mark.parametrize(
        "text",
        [
            *("-t 1-3", "-tc 2", "-h", "-hold_jid 5", "-hold_jid_ad 5", "-verify", "-ckpt c"),
            *("-sync r", "-sync x", "-sync rx"),
            *("-sync y", "-sync YES", "-sync y -clear", "-o exec1:/x", "-S exec1:/bin/sh"),
            *("-i exec1:/x", "-o /x,exec1:/y"),
        ],
    )
    def test_what_no_argument_overrides_is_found(self, text: str) -> None:
        assert find_hindrance(parse(f"-P p {text}"), ARGUMENTS) == parse(f"-P p {text}")[-1]

    @pytest.mark.parametrize(
        "text",
        [
            *("", "-sync n", "-b y", "-now y", "-shell n", "-a 12312359", "-o /x -j n -e exec1:/x"),
            *("-S /bin/false", "-N a -wd /x -r y -w n", "-pe smp 4", "-V", "-v LD_PRELOAD=/x"),
            *("-q none.q", "-l h=nowhere", "-P nosuch", "-m beas -M a@b", "-notify", "-R y"),
            *("-h -clear", "-t 1-3 -clear", "-dc jupyterhub_user", "-foo", "-sync"),
        ],
    )
    def test_what_is_overridden_or_harmless_passes(self, text: str) -> None:
        assert find_hindrance(parse(text), ARGUMENTS) is None

    def test_slots_that_the_session_does_not_request_are_found(self) -> None:
        assert find_hindrance(parse("-pe smp 4"), ("-l", "h_vmem=1G")) == parse("-pe smp 4")[0]


class TestOverrides:
    @pytest.mark.parametrize(
        ("text", "arguments"),
        [
            ("", ""),
            ("-P p -q q -l a=1 -V -o /x", ""),
            ("-now y -b y", "-b n -now n"),
            ("-a 12312359", "-a 197001020000"),
            ("-i /x -shell n -pty y", "-i /dev/null -pty n -shell y"),
            ("-v A=1,PATH_=2,LD_LIBRARY_PATH=/x", ""),
            ("-v A=1,LD_PRELOAD=/x", "-v LD_PRELOAD="),
            (
                "-v HOME=/x,PATH -v LD_AUDIT=/y",
                "-v HOME=/h,PATH=/usr/local/bin:/usr/bin:/bin,LD_AUDIT=",
            ),
        ],
    )
    def test_only_options_of_the_files_are_overridden(self, text: str, arguments: str) -> None:
        assert overrides(parse(text), "/h") == arguments.split()


class TestSuspects:
    @pytest.mark.parametrize(
        ("text", "words", "named"),
        [
            ("-R y\n-q none.q", 'requests unknown queue "none.q"', ["-q none.q"]),
            ("-P p\n-l h=nowhere", 'can\'t resolve hostname "nowhere"', ["-l h=nowhere"]),
            ("-P p\n-l foo=1", 'unknown resource "foo"', ["-l foo=1"]),
            ("-P p\n-foo x", 'invalid option argument "-foo"', ["-foo x"]),
            ("-P p\n-p", "-p option must have argument", ["-p"]),
            ("-P x\n-p 10", "positive submission priority", ["-P x", "-p 10"]),
            ("-e /x\n-N n\n-w n", "no suitable queues", []),
            ("-P x\n ", "", [""]),
            ("-R y\n-j oe", 'invalid option argument "-j oe"', ["-j oe"]),
            ("-R y\n-r maybe", 'invalid option argument "-r maybe"', ["-r maybe"]),
            ("-R y\n-N a/b", "argument to -N option must not contain /", ["-N a/b"]),
            ("-R y\n-a tomorrow", 'format "tomorrow" specified to -a option', ["-a tomorrow"]),
            ("-R y\n-o", "-o option must have argument", ["-o"]),
            ("-m q\n-m n", 'mail options list format "q" specified to -m option', ["-m q"]),
            ("-P x\n-@ /f", "", ["-@ /f"]),
            ("-P x\n ", "no suitable queues", ["-P x"]),
            ("-R y\n-P x\ngarbage", "qsub: Unknown option", ["garbage"]),
            ("-P x", "qsub: Unknown option", []),
            ("-m n\n-M a@b\n-r y", "Site policy: at most 3 cores", []),
        ],
    )
    def test_the_option_that_qsub_means_is_named(
        self, text: str, words: str, named: list[str]
    ) -> None:
        assert [str(each) for each in suspects(parse(text), ARGUMENTS, words)] == named
