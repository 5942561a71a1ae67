"""The rules and the Grafana dashboard: they speak of metrics that are served, and the rules fire when they should."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operator.watching.faces import Faces
from tests.operator.watching.templates import FOLDER
from tests.plugins.system_packages import get_program

pytestmark = pytest.mark.anyio

ALERTS = FOLDER / "alerts.yaml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
GRAFANA: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
HERE = 'instance="mail-1:9464", job="gateway"'

# Of each alert: what is scraped every minute, the minute by which it fires, and the minutes by which it does not.
STORIES: dict[str, tuple[dict[str, str], int, tuple[int, ...]]] = {
    "AccessDenied": (
        {f'email_gateway_secret_refresh_total{{name="smtp-url", result="denied", {HERE}}}': "0x5 1x20"},
        6,
        (4, 20),
    ),
    "StaleSecret": (
        {
            f'email_gateway_secrets_age_seconds{{name="smtp-url", {HERE}}}': "0+60x20",
            f"email_gateway_secrets_lifetime_seconds{{{HERE}}}": "300x20",
        },
        14,
        (9, 12),
    ),
    "RootKeyOutOfReach": ({f"email_gateway_root_key_alert{{{HERE}}}": "0x2 1x20"}, 14, (2, 11)),
    "RotationFailed": (
        {f'email_gateway_rotation{{name="encryption-key", state="failed", {HERE}}}': "0x3 1x5 0x9"},
        5,
        (2, 12),
    ),
    "RotationStepFailed": (
        {f'email_gateway_rotation_steps_total{{step="stage", result="failed", {HERE}}}': "0x3 1x9"},
        5,
        (3,),
    ),
    "RotationOverdue": (
        {f'email_gateway_rotation{{name="encryption-key", state="overdue", {HERE}}}': "0x3 1x9"},
        5,
        (2,),
    ),
    "Disagreement": ({f"email_gateway_processes_disagreeing{{{HERE}}}": "0x2 1x20"}, 14, (2, 11)),
    "DeadLetters": ({f"email_gateway_dead_letters{{{HERE}}}": "0x2 3x20"}, 9, (2, 6)),
    "QueueAge": ({f"email_gateway_queue_age_seconds{{{HERE}}}": "0+60x40"}, 21, (14, 19)),
    "Silence": ({f"email_gateway_fleet_figures_age_seconds{{{HERE}}}": "10x2 _x20"}, 14, (2, 6)),
}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([get_program("promtool"), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.needs("promtool")
def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", str(ALERTS))
    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_every_alert_has_a_story() -> None:
    assert {rule["alert"] for rule in RULES} == {f"EmailGateway{name}" for name in STORIES}


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("name", STORIES)
def test_an_alert_fires_when_it_should_and_not_before(tmp_path: Path, name: str) -> None:
    series, fires_at, silent_at = STORIES[name]
    told: dict[str, Any] = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": each, "values": values} for each, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="EmailGateway{name}", alertstate="firing"}})',
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if minute == fires_at else [],
                    }
                    for minute in (fires_at, *silent_at)
                ],
            }
        ],
    }
    story = tmp_path / "story.yaml"
    story.write_text(yaml.safe_dump(told))
    done = promtool("test", "rules", str(story))
    assert done.returncode == 0, done.stdout + done.stderr


async def test_rules_speak_of_what_is_served(faces: Faces) -> None:
    for rule in RULES:
        assert set(re.findall(r"email_gateway_\w+", rule["expr"])) <= faces.served_names


async def test_grafana_shows_what_is_served_and_nothing_else(faces: Faces) -> None:
    expressions = [target["expr"] for panel in GRAFANA["panels"] for target in panel["targets"]]
    assert set(re.findall(r"email_gateway_\w+", " ".join(expressions))) == faces.served_names


@pytest.mark.needs("promtool")
def test_grafanas_expressions_are_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"shown_{panel['id']}_{target['refId']}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for panel in GRAFANA["panels"]
        for target in panel["targets"]
    ]
    written = tmp_path / "shown.yaml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": rules}]}))
    done = promtool("check", "rules", str(written))
    assert done.returncode == 0, done.stdout + done.stderr


async def test_labels_that_are_asked_for_are_served(faces: Faces) -> None:
    texts = [rule["expr"] for rule in RULES]
    for name, wanted in re.findall(r'(email_gateway_\w+)\{(\w+)="', " ".join(texts)):
        assert any(sample == name and wanted in labels for sample, labels, _ in faces.samples())


def test_grafana_asks_which_prometheus_and_lays_panels_side_by_side() -> None:
    (variable,) = GRAFANA["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in GRAFANA["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in GRAFANA["panels"])
