"""When each alert must fire and when not: series for promtool's unit tests of the rules."""

from __future__ import annotations

from typing import Any, NamedTuple

#: How far apart the values of the series are.
INTERVAL = "1m"

UP = 'up{job="gridhub", instance="hub"}'
NODE = 'job="gridhub-node", instance="exec1"'
UNIT = "node_systemd_unit_state"
DISK = f'{NODE}, fstype="ext4", mountpoint="/"'
STARTS = "gridhub_session_starts_total"
DECISIONS = "gridhub_broker_decisions_total"
LOGINS = "jupyterhub_login_duration_seconds_count"


class Case(NamedTuple):
    """An alert, and what Prometheus has scraped (``first+step x times``)."""

    alert: str
    series: dict[str, str]
    #: Minutes after which the alert must not fire, then must, and then must not any more.
    quiet: int
    firing: int
    clear: int


def histogram(name: str, labels: str, bounds: tuple[str, str], slow: str) -> dict[str, str]:
    """Return a histogram of which nearly all values lie between two bounds, while it grows."""
    low, high = (f'{name}_bucket{{{labels}le="{bound}"}}' for bound in bounds)
    return {low: "0x200", high: slow, f'{name}_bucket{{{labels}le="+Inf"}}': slow}


CASES = [
    Case("GridHubDown", {UP: "1x4 0x10 1x10"}, 6, 8, 16),
    # A scrape job that is taken out of the configuration leaves a stale mark.
    Case("GridHubNotWatched", {UP: "1x4 stale _x10 1x10"}, 9, 12, 18),
    Case("HostDown", {f"up{{{NODE}}}": "1x4 0x10 1x10"}, 8, 11, 16),
    Case(
        "ServiceFailed",
        {f'{UNIT}{{{NODE}, name="nginx.service", state="failed"}}': "0x4 1x10 0x9"},
        6,
        8,
        16,
    ),
    Case(
        "DiskAlmostFull",
        {
            f"node_filesystem_avail_bytes{{{DISK}}}": "50x4 9x30 50x9",
            f"node_filesystem_size_bytes{{{DISK}}}": "100x60",
        },
        19,
        22,
        37,
    ),
    Case(
        "TextfileUnreadable", {f"node_textfile_scrape_error{{{NODE}}}": "0x4 1x20 0x9"}, 14, 16, 27
    ),
    Case("GridEngineSilent", {"gridhub_collector_failures_in_a_row": "2x4 3x10 0x9"}, 5, 7, 16),
    Case(
        "GridEngineSlow",
        histogram(
            "gridhub_grid_engine_command_seconds", 'command="qstat", ', ("5", "10"), "0+9x25 225x40"
        ),
        10,
        13,
        40,
    ),
    Case(
        "BrokerFails",
        {f'{DECISIONS}{{action="start", decision="no_answer"}}': "0x10 1 2 3 4 4x30"},
        11,
        14,
        27,
    ),
    Case(
        "StartsFail",
        {
            f'{STARTS}{{outcome="no_answer"}}': "0x10 1 2 3 4 4x60",
            f'{STARTS}{{outcome="ready"}}': "0x10 1x70",
        },
        11,
        14,
        50,
    ),
    Case("SessionsWaitLong", {"gridhub_session_longest_wait_seconds": "0+60x20 0x9"}, 10, 12, 23),
    Case(
        "StartsSlow",
        histogram(
            "gridhub_session_start_phase_seconds",
            'phase="boot", ',
            ("60", "120"),
            "0+1x40 40x100",
        ),
        14,
        20,
        110,
    ),
    Case(
        "SessionsUnreachable", {'gridhub_sessions{state="unreachable"}': "0x4 2x10 0x9"}, 8, 11, 16
    ),
    Case(
        "SessionsLost",
        {'gridhub_session_endings_total{reason="worker"}': "0x10 1 2 3 4 4x90"},
        11,
        14,
        80,
    ),
    Case(
        "JobsCannotBeDeleted",
        {"gridhub_job_deletion_failures_total": "0x10 1 2 3 4 4x60"},
        11,
        14,
        40,
    ),
    Case(
        "PeopleHitLimits",
        {'gridhub_refusals_total{reason="limit_starts"}': "0x10 40 80 120 160 160x60"},
        11,
        14,
        30,
    ),
    Case(
        "LoginsFail",
        {
            f'{LOGINS}{{status="LoginStatus.failure"}}': "0x10 10 20 30 40 40x60",
            f'{LOGINS}{{status="LoginStatus.success"}}': "0x10 2x70",
        },
        11,
        14,
        30,
    ),
    Case(
        "HubSlow",
        histogram("jupyterhub_event_loop_interval_seconds", "", ("1", "2.5"), "0+9x25 225x40"),
        10,
        13,
        40,
    ),
    Case(
        "HubMemoryHigh",
        {"gridhub_hub_memory_bytes": "1e9x4 3.5e9x20 1e9x9"},
        13,
        16,
        27,
    ),
    # Time begins with 0 in these tests.
    Case(
        "CertificateExpires",
        {'gridhub_certificate_expiry_timestamp_seconds{certificate="edge"}': "1817400x120 9e9x9"},
        100,
        112,
        125,
    ),
    Case("MaintenanceFailed", {"gridhub_maintenance_last_success": "1x4 0x4 1x9"}, 4, 6, 12),
    Case("MaintenanceMissed", {"gridhub_maintenance_missed": "0x4 1x4 0x9"}, 4, 6, 12),
    Case("SmokeFails", {"gridhub_smoke_success": "1x4 0x4 1x9"}, 4, 6, 12),
    Case(
        "SmokeTooOld",
        {"gridhub_smoke_last_success_timestamp_seconds": "0x140 9000x20"},
        122,
        130,
        145,
    ),
    Case(
        "BackupTooOld",
        # A host that is new after 100 minutes, and never had a backup.
        {"gridhub_backup_last_success_timestamp_seconds": "_x100 0x3020 190000x20"},
        3102,
        3112,
        3130,
    ),
]


def promtool_test(rules: str) -> dict[str, Any]:
    """Return the content of a file for ``promtool test rules``.

    :param rules: the path of the rules, as promtool sees it.
    """

    def block(case: Case) -> dict[str, Any]:
        expression = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}})'
        return {
            "interval": INTERVAL,
            "input_series": [
                {"series": name, "values": values} for name, values in case.series.items()
            ],
            "promql_expr_test": [
                {
                    "expr": expression,
                    "eval_time": f"{minutes}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
                for minutes, fires in (
                    (case.quiet, False),
                    (case.firing, True),
                    (case.clear, False),
                )
            ],
        }

    return {
        "rule_files": [rules],
        "evaluation_interval": INTERVAL,
        "tests": [block(case) for case in CASES],
    }
