"""Rules, dashboards, runbooks and the role's files belong together."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client import REGISTRY

from folders import ROOT
from gridhub.grid.collector import Collector
from gridhub.grid.engine import GridEngine
from gridhub.hub.metrics import ClusterMetrics
from gridhub.maintenance import metrics as maintenance
from gridhub.maintenance import smoke_steps

FOLDER = ROOT / "roles/monitoring/files"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
RULES = yaml.safe_load((FOLDER / "gridhub.rules.yml").read_text(encoding="utf-8"))["groups"]
ALERTS = [rule for group in RULES for rule in group["rules"] if "alert" in rule]
RECORDED = {rule["record"]: rule for group in RULES for rule in group["rules"] if "record" in rule}
TEXT = (ROOT / "docs/watching.md").read_text(encoding="utf-8")
NOW = datetime.now(UTC).isoformat()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tests/monitoring/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known() -> set[str]:
    """Return the names of all samples that GridHub exports, and those of the recording rules."""
    metrics = ClusterMetrics()
    cluster: Any = type("Cluster", (), {})()
    cluster.collector = Collector(GridEngine(Path("/")))
    cluster.requested = {}
    details = type("Details", (), {"age": None, "last_answer": None, "answer": None})
    cluster.status = type("Status", (), {"details": details})
    metrics.cluster = cluster
    families = [*REGISTRY.collect(), *metrics.collect()]
    names = {sample.name for family in families for sample in family.samples}
    names |= {family.name for family in families}
    text = maintenance.metrics_text({"ended": NOW, "result": "done", "steps": []}, None, False)
    text += maintenance.certificates_text({}) + maintenance.backup_text("/nowhere")
    smoke = {"ok": True, "failed": "", "ended": NOW, "last_success": NOW, "seconds": {"start": 3}}
    text += smoke_steps.metrics_text(smoke, has_timer=True)
    names |= set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    return {name for name in names if name.startswith("gridhub")} | set(RECORDED)


def used(expression: str) -> set[str]:
    return set(re.findall(r"\bgridhub[_:][a-z0-9_:]+", expression))


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel


def queries() -> Iterator[tuple[str, str]]:
    for path in DASHBOARDS:
        for panel in panels(json.loads(path.read_text(encoding="utf-8"))):
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_rules_and_dashboards_use_only_metrics_that_exist() -> None:
    names = known()
    expressions = [
        (rule.get("alert", rule.get("record")), rule["expr"])
        for rule in [*ALERTS, *RECORDED.values()]
    ]
    for where, expression in [*expressions, *queries()]:
        assert used(expression) <= names, where


def test_each_metric_of_the_hub_is_documented() -> None:
    for name in known() - set(RECORDED):
        base = re.sub(r"_(bucket|count|sum|created)$", "", name)
        assert base in TEXT or f"{base}_total" in TEXT or base.startswith("gridhub_maintenance"), (
            name
        )


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_each_alert_has_a_runbook_and_what_a_mail_needs(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert f"\n### {name}\n" in TEXT
    assert rule["annotations"]["runbook"] == f"docs/watching.md#{name.lower()}"
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_runbooks_name_units_programs_and_playbooks_that_exist() -> None:
    """A runbook is read when something is broken: a wrong name in it costs time."""
    templates = [path.name for path in ROOT.glob("roles/*/templates/*")]
    ours = {name.removesuffix(".j2") for name in templates}
    # Units of the distribution, and what stands for the unit that the alert names.
    others = {"nginx.service", "prometheus-node-exporter.service", "UNIT.service"}
    commands = re.findall(r"systemctl (?!list-)[a-z-]+ ([^`]+)|journalctl -u (\S+)", TEXT)
    units = {unit for pair in commands for words in pair for unit in words.split()}
    assert len(units) > 8
    for unit in units:
        assert (unit if "." in unit else f"{unit}.service") in ours | others, unit
    programs = set(re.findall(r"(?:journalctl -t |SYSLOG_IDENTIFIER=)([\w-]+)", TEXT))
    broker = (ROOT / "roles/jupyterhub/templates/jupyterhub-broker@.service.j2").read_text("utf-8")
    assert programs and all(f"SyslogIdentifier={each}\n" in broker for each in programs)
    books = set(re.findall(r"playbooks/(\w+\.yml)", TEXT))
    assert books and books <= {path.name for path in (ROOT / "playbooks").glob("*.yml")}


def test_each_alert_is_tested_with_promtool_and_on_a_cluster() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert sorted(case.alert for case in load("rules").CASES) == sorted(names)
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests/monitoring").glob("test_*"))
    for name in names:
        assert f'"{name}"' in tests, f"no test makes {name} fire"
    runbooks = set(re.findall(r"^### (\w+)$", TEXT, re.MULTILINE))
    assert runbooks == set(names), "a section without an alert"


#: The fields of a dashboard that ours use, from Grafana's own definition of its version 39. A
#: field that Grafana does not know has no effect there, and nobody would see why.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["uid", "title", "panels", "schemaVersion", "templating", "time"],
    "properties": {
        "uid": {"type": "string", "maxLength": 40},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "timezone": {"type": "string"},
        "editable": {"type": "boolean"},
        "graphTooltip": {"enum": [0, 1, 2]},
        "time": {"type": "object", "required": ["from", "to"]},
        "refresh": {"type": "string"},
        "schemaVersion": {"const": 39},
        "version": {"type": "integer"},
        "templating": {"type": "object", "required": ["list"]},
        "annotations": {"type": "object", "required": ["list"]},
        "links": {"type": "array"},
        "panels": {"type": "array", "items": {"$ref": "#/definitions/panel"}},
    },
    "definitions": {
        "panel": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "type", "title", "gridPos"],
            "properties": {
                "id": {"type": "integer"},
                "type": {"enum": ["row", "stat", "timeseries", "bargauge"]},
                "title": {"type": "string", "minLength": 1},
                "description": {"type": "string"},
                "datasource": {"$ref": "#/definitions/datasource"},
                "gridPos": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["x", "y", "w", "h"],
                    "properties": {
                        "x": {"type": "integer", "minimum": 0, "maximum": 23},
                        "y": {"type": "integer", "minimum": 0},
                        "w": {"type": "integer", "minimum": 1, "maximum": 24},
                        "h": {"type": "integer", "minimum": 1},
                    },
                },
                "collapsed": {"type": "boolean"},
                "panels": {"type": "array"},
                "interval": {"type": "string"},
                "timeFrom": {"type": "string"},
                "fieldConfig": {"type": "object", "required": ["defaults", "overrides"]},
                "options": {"type": "object"},
                "targets": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["refId", "datasource", "expr"],
                        "properties": {
                            "refId": {"type": "string"},
                            "datasource": {"$ref": "#/definitions/datasource"},
                            "editorMode": {"const": "code"},
                            "expr": {"type": "string", "minLength": 1},
                            "legendFormat": {"type": "string"},
                            "range": {"type": "boolean"},
                            "instant": {"type": "boolean"},
                        },
                    },
                },
            },
        },
        "datasource": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}},
        },
    },
}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_only_what_grafana_knows(path: Path) -> None:
    """``GRIDHUB_GRAFANA_SCHEMA`` names Grafana's whole schema, to check against it as well.

    It is the folder ``jsonschema`` of github.com/grafana/grafana-foundation-sdk.
    """
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(SCHEMA).validate(dashboard)
    if folder := os.environ.get("GRIDHUB_GRAFANA_SCHEMA"):
        validate_as(folder, "dashboard", "Dashboard", dashboard)
        for panel in panels(dashboard):
            validate_as(folder, panel["type"], "Options", panel["options"])
            if custom := panel["fieldConfig"]["defaults"].get("custom"):
                validate_as(folder, panel["type"], "FieldConfig", custom)
            for target in panel["targets"]:
                validate_as(folder, "prometheus", "Dataquery", target)


def validate_as(folder: str, name: str, definition: str, part: object) -> None:
    """Check a part of a dashboard against a definition of Grafana's schema."""
    schema = json.loads(Path(folder, f"{name}.jsonschema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema | {"$ref": f"#/definitions/{definition}"}).validate(part)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_panel_covers_another(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
