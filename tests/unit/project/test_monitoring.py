"""The alert rules and the dashboard for Grafana: promtool accepts them, and all metrics in them exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests import ROOT
from tests.integration.api.test_statistics_api import NAMES

MONITORING = ROOT / "backend" / "monitoring"
METRIC = re.compile(r"\bdashboard_[a-z_]+\b")
SUFFIX = re.compile(r"_(total|bucket|count|sum)$")
HOW_TO_GET_IT = "promtool is not installed; get it with: apt-get install prometheus"


def promtool(*arguments: str, stdin: str | None = None) -> str:
    """Run promtool, and return what it says. Fails if it complains."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip(HOW_TO_GET_IT)
    done = subprocess.run(
        [program, *arguments], cwd=MONITORING, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_there_are_six_alert_rules_and_promtool_accepts_them() -> None:
    assert "SUCCESS: 6 rules found" in promtool("check", "rules", "alerts.yml")


def test_each_alert_rings_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
    rules, tests = ((MONITORING / name).read_text(encoding="utf-8") for name in ("alerts.yml", "alerts_test.yml"))
    for alert in re.findall(r"- alert: (\w+)", rules):
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n", tests), f"{alert} is not seen ringing"


@pytest.mark.parametrize("name", ["alerts.yml", "alerts_test.yml", "grafana.json"])
def test_every_metric_that_is_named_exists(name: str) -> None:
    named = set(METRIC.findall((MONITORING / name).read_text(encoding="utf-8")))
    assert {SUFFIX.sub("", metric) for metric in named} <= NAMES
    assert named


def test_the_dashboard_shows_every_metric() -> None:
    text = (MONITORING / "grafana.json").read_text(encoding="utf-8")
    shown = {SUFFIX.sub("", metric) for metric in METRIC.findall(text)}
    assert shown >= NAMES - {"dashboard_build_info"}
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["targets"] and panel["title"] for panel in panels)
