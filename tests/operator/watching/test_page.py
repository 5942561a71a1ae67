"""docs/watching.md lists every metric that is served, with its unit and labels, and every alarm."""

import re
from pathlib import Path

import pytest

from email_gateway.observe.emf import unit_of
from tests.cli.test_help import EVERY_COMMAND
from tests.operator.watching.faces import Faces
from tests.operator.watching.templates import of_type
from tests.operator.watching.test_prometheus import RULES

pytestmark = pytest.mark.anyio

PAGE = Path("docs/watching.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
METRICS = {row[0].strip("`| "): row for row in ROWS if row[0].startswith("`email_gateway_")}
ALARMS = {row[0].strip("`| ") for row in ROWS} - set(METRICS)


async def test_the_page_lists_what_is_served_with_unit_and_labels(faces: Faces) -> None:
    labels: dict[str, set[str]] = {}
    for name, given, _ in faces.samples():
        labels.setdefault(name, set()).update(given)
    assert set(METRICS) == set(labels)
    for name, row in METRICS.items():
        assert row[1] == unit_of(name).lower()
        assert set(re.findall(r"`(\w+)`", row[2])) == labels[name], name


def test_the_page_lists_every_alarm_and_every_rule() -> None:
    rules = {rule["alert"].removeprefix("EmailGateway") for rule in RULES}
    assert set(of_type("AWS::CloudWatch::Alarm")) | set(of_type("AWS::Events::Rule")) | rules == ALARMS


def test_every_command_of_the_page_exists() -> None:
    named = re.findall(r"`(?:email-gateway )?((?:secrets|keys|dlq|queue|doctor)[a-z ]*)", PAGE)
    assert len(named) > 20
    for words in named:
        assert any(f"{words} ".startswith(f"{command} ") for command in EVERY_COMMAND), words
