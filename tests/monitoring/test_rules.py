"""promtool's own tests of the rules, with their real times."""

from __future__ import annotations

import json

from cluster import host
from prometheus import FOLDER, MONITOR, REAL_RULES, write
from rules import promtool_test


def test_each_alert_fires_when_it_must_and_only_then() -> None:
    # The running Prometheus has faster rules.
    write("/tmp/rules.yml", REAL_RULES)
    write("/tmp/rules_test.yml", json.dumps(promtool_test("/tmp/rules.yml")))
    done = host(MONITOR).run(
        "promtool check rules /tmp/rules.yml && promtool test rules /tmp/rules_test.yml"
    )
    assert done.rc == 0, done.stdout + done.stderr
    assert FOLDER in host(MONITOR).check_output("cat /etc/prometheus/prometheus.yml")
