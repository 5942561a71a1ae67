"""`aws template`, `aws policy` and `aws trust`: what they print, where they write it, and what they refuse."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from email_gateway.cli import app, exits
from email_gateway.errors import OperationRefused
from email_gateway.operator.roles import PLATFORMS, ROLES, Place, make_trust
from email_gateway.operator.template_files import get_template, list_templates
from tests.cli.secrets.conftest import Shell, kms, shell  # noqa: F401  (fixtures)

KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"


def test_without_a_name_the_templates_are_listed() -> None:
    listed = json.loads(CliRunner().invoke(app, ["aws", "template", "--json"]).output)
    assert {each["name"] for each in listed} == set(list_templates())
    told = CliRunner().invoke(app, ["aws", "template"]).output
    for name in list_templates():
        assert name in told


@pytest.mark.parametrize("name", list_templates())
def test_a_template_is_printed_and_written_as_it_is(name: str, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["aws", "template", name]).output == get_template(name)
    file = tmp_path / name
    assert CliRunner().invoke(app, ["aws", "template", name, "--output", str(file)]).output == f"{file}\n"
    assert file.read_text() == get_template(name)


@pytest.mark.parametrize("name", list_templates())
def test_each_template_says_what_it_is(name: str) -> None:
    text = get_template(name)
    said = json.loads(text)["description"] if name.endswith(".json") else text.partition("\n")[0]
    assert re.fullmatch(r"(# )?\w.{20,}\.", said)
    assert list_templates()[name] == said.removeprefix("# ").rstrip(".")


def test_a_template_that_does_not_exist_is_refused_with_the_way_to_the_list() -> None:
    answer = CliRunner().invoke(app, ["aws", "template", "nonsense.yaml"])
    assert isinstance(answer.exception, OperationRefused)
    assert answer.exception.next_step == "`email-gateway aws template` lists them"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["aws", "template", "gateway.yaml", "--output", str(tmp_path)])
    assert isinstance(answer.exception, exits.CommandFailed)
    assert str(tmp_path) in str(answer.exception)


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_needs_no_aws_where_the_key_is_named(role: str) -> None:
    told = CliRunner().invoke(app, ["aws", "policy", role, "--kms-key", KEY]).output
    assert json.loads(told) == ROLES[role](Place.of(KEY, "email-gateway"))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_trust_policy_is_printed_for_each_platform(platform: str) -> None:
    issuer = "oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE"
    told = CliRunner().invoke(app, ["aws", "trust", platform, "--kms-key", KEY, "--oidc-provider", issuer]).output
    assert json.loads(told) == make_trust(platform, Place.of(KEY, "email-gateway"), issuer)


@pytest.mark.parametrize("arguments", [["policy", "root"], ["trust", "mainframe"]])
def test_other_roles_and_platforms_are_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["aws", *arguments, "--kms-key", KEY]).exit_code == exits.WRONG_USAGE


def test_the_key_is_found_by_its_alias(shell: Shell) -> None:  # noqa: F811
    missing = shell.run("policy", "reader", command="aws")
    assert missing.code == exits.FAILED
    assert f"no KMS key with the alias {shell.alias}" in missing.err
    assert shell.run("init").code == 0
    (key,) = (each["TargetKeyId"] for each in shell.kms.list_aliases()["Aliases"] if each["AliasName"] == shell.alias)
    found = shell.run("policy", "reader", command="aws").told
    assert found == ROLES["reader"](Place.of(KEY.rpartition("/")[0] + f"/{key}", shell.prefix))
