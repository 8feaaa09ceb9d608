"""Alerts ring when they should, every metric in them and on the dashboard exists, pages explain."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.controller.metrics import exposition
from reconciler.controller.status import ControllerStatus, ServerStatus
from reconciler.controller.status_store import Servers, StatusStore
from reconciler.model.values import replace
from tests.controller.sample_statuses import braked
from tests.deploy.tools import DEPLOY, ROOT, ran

ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
UNITS = DEPLOY / "prometheus" / "alerts.test.yaml"
DASHBOARD = DEPLOY / "grafana" / "jtr.json"
PAGE = (ROOT / "docs" / "alerts.md").read_text("utf-8")
BASE = "https://jtr.internal/docs/"
METRIC = re.compile(r"\bjtr_[a-z_]+")


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    found = group["rules"]
    assert isinstance(found, list)
    return found


def expressions(node: Any) -> Iterator[str]:
    """Every PromQL expression of the dashboard."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition", "query") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for item in node:
            yield from expressions(item)


def exposed() -> str:
    """What a controller with one server has to tell Prometheus."""
    status = ControllerStatus("1", "one", "2026-11-22T09:00:00Z", brakes=(braked("0.24.1"),))
    server = ServerStatus("tokyo-1", "https://tokyo-1.internal", "0", window_open=True)
    status_store = StatusStore(
        replace(status, revision="r", token_seconds=60.0), Servers({"tokyo-1": server})
    )
    status_store.pass_seconds.add(1.0)
    return exposition(status_store, 0.0, 0.0).decode()


def test_promtool_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in ran("promtool", "check", "rules", ALERTS)


@pytest.mark.volume
def test_each_alert_rings_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in ran("promtool", "test", "rules", UNITS)
    for rule in rules():
        assert f"name: {rule['alert']}" in UNITS.read_text("utf-8"), rule["alert"]


@pytest.mark.volume
def test_positive_control_a_rule_that_never_rings_is_noticed(tmp_path: Path) -> None:
    changed = ALERTS.read_text("utf-8").replace("jtr_stuck == 1", "jtr_stuck == 2")
    (tmp_path / "alerts.yaml").write_text(changed, "utf-8")
    (tmp_path / "units.yaml").write_text(UNITS.read_text("utf-8"), "utf-8")

    assert "JtrStuck" in ran("promtool", "test", "rules", tmp_path / "units.yaml", code=1)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_how_bad_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    words = rule["annotations"]
    url = words["runbook_url"]
    page, _, anchor = url.removeprefix(BASE).partition("#")

    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert words["summary"]
    assert words["description"].endswith(".")
    assert url.startswith(BASE)
    if page == "alerts.md":
        assert anchor == rule["alert"].lower()
    else:
        assert page.startswith("runbooks/")
        assert rule["alert"].lower() in (ROOT / "docs" / page).read_text("utf-8").lower()
    assert f"\n## {rule['alert']}\n\n*{rule['labels']['severity']}" in PAGE
    waits = rule.get("for")
    assert (
        f"## {rule['alert']}\n\n*{rule['labels']['severity']}"
        + (f", after {waits}*" if waits else "*")
        in PAGE
    )


def test_the_one_that_always_rings_wakes_nobody() -> None:
    names = [rule["alert"] for rule in rules() if rule["labels"]["severity"] == "none"]

    assert names == ["JtrWatchdog"]


def test_the_page_has_no_alert_that_is_gone() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == [rule["alert"] for rule in rules()]


def test_every_metric_of_rules_and_dashboard_exists() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    texts = [*(rule["expr"] for rule in rules()), *expressions(dashboard)]
    used = {name for text in texts for name in METRIC.findall(text)}
    told = exposed()
    declared = set(re.findall(r"^# TYPE (\S+) ", told, re.MULTILINE))
    declared |= set(re.findall(r"^(jtr_pass_duration_seconds_\w+)", told, re.MULTILINE))

    assert len(used) > 30
    assert used - declared == set()
    for text in texts:
        for value in re.findall(r'(?:status|kind)="[^"]+"', text):
            assert value in told, text


def test_everything_that_is_told_of_servers_stands_on_the_dashboard() -> None:
    shown = set(METRIC.findall(" ".join(expressions(json.loads(DASHBOARD.read_text("utf-8"))))))
    declared = set(re.findall(r"^# TYPE (\S+) ", exposed(), re.MULTILINE))

    assert declared - shown - {"jtr_pass_duration_seconds"} == set()


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    panels = dashboard["panels"]
    taken: set[tuple[int, int]] = set()

    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert [target["refId"] for target in panel["targets"]] == [
            chr(ord("A") + number) for number in range(len(panel["targets"]))
        ]


@pytest.mark.parametrize(
    "panel",
    [one for one in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if one["type"] != "table"],
    ids=lambda panel: str(panel["title"]),
)
def test_a_panel_has_the_unit_of_what_it_shows(panel: dict[str, Any]) -> None:
    shown = [target["expr"] for target in panel["targets"]]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    seconds = [("_seconds" in expr and "_seconds_count[" not in expr) for expr in shown]
    rates = ["rate(" in expr and "_seconds" not in expr for expr in shown]

    if unit == "s":
        assert all("_seconds" in expr for expr in shown)
    elif unit == "ops":
        assert all(rates)
    else:
        assert unit in ("none", "short")
        assert not any(seconds)
        assert not any(rates)


def test_promtool_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    found = [
        target["expr"].replace("$__rate_interval", "5m").replace("$server", ".*")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    records = [{"record": f"r{number}", "expr": expr} for number, expr in enumerate(found)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": records}]}), "utf-8")

    assert f"{len(found)} rules found" in ran("promtool", "check", "rules", file)
