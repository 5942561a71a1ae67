"""docs/infrastructure.md names every template and parameter, and its commands work."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from email_gateway.cli import app
from email_gateway.operator.template_files import list_templates
from email_gateway.settings import load_settings
from tests.operator.cloudformation import Stack

PAGE = (Path(__file__).parents[2] / "docs" / "infrastructure.md").read_text()
OURS = re.findall(r"^email-gateway (aws [^#\n]*?)(?: > [\w.]+)?\s*(?:#.*)?$", PAGE, re.MULTILINE)


def test_every_template_of_ours_is_named() -> None:
    of_this_page = {"gateway.yaml", "endpoint.yaml", "stores.yaml", "ecs.yaml", "kubernetes.yaml"}
    units = {name for name in list_templates() if name.endswith(".service")}
    assert of_this_page <= set(list_templates())
    for name in of_this_page | units:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", ["gateway.yaml", "endpoint.yaml", "stores.yaml", "ecs.yaml"])
def test_every_parameter_is_explained(name: str) -> None:
    for parameter in Stack(name).template["Parameters"]:
        assert f"`{parameter}`" in PAGE


def test_the_page_has_commands() -> None:
    assert len(OURS) >= 6


@pytest.mark.parametrize("command", OURS)
def test_every_command_of_ours_works(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "$KEY_ARN": "arn:aws:kms:us-east-1:123456789012:key/abc",
        "$ISSUER": "oidc.eks.us-east-1.amazonaws.com/id/A",
    }
    arguments = [values.get(word, word) for word in shlex.split(command)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    if arguments[1] in ("policy", "trust"):
        assert json.loads(answer.output)["Version"] == "2012-10-17"


def test_the_settings_of_the_units_start_a_production_that_warns_of_nothing() -> None:
    (block,) = re.findall(r"```ini\n(.+?)```", PAGE, re.DOTALL)
    settings = load_settings(dict(line.split("=", 1) for line in block.splitlines()))
    assert settings.database_iam_auth
    assert settings.warnings == ()


def test_deployments_name_parameters_that_exist() -> None:
    known = set(Stack("gateway.yaml").template["Parameters"])
    for overrides in re.findall(r"--parameter-overrides (.+)$", PAGE, re.MULTILINE):
        assert {word.partition("=")[0] for word in overrides.split()} <= known
