"""docs/aws.md is followed from its first command to its last, with the real AWS CLI, and prints what stands there."""

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.moto_server import AWS_ENVIRONMENT, REGION, connect
from tests.operator.cloudformation import Stack
from tests.pages.aws_cli_model import fenced_commands, find_commands, request_of
from tests.pages.console import Step, read_steps, words
from tests.pages.shell import PageShell, page_shell
from tests.pages.surroundings import Surroundings, surroundings
from tests.plugins.marks import Watch

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

pytestmark = [pytest.mark.anyio, pytest.mark.needs("curl", "jq")]

PAGE = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()
PORT = "8025"
# What moto's server does not answer as AWS does. These are not run: what the AWS CLI would send is held against botocore's model.
NOT_ANSWERED = {
    "aws cloudformation deploy": "moto makes neither secrets nor alarms, and says CREATE_COMPLETE; tests/operator deploys",
    "aws cloudtrail lookup-events": "moto: NotImplementedError; tests/cli/secrets/test_audit.py has a trail",
    "aws ec2 associate-iam-instance-profile": "there is no instance, as there would be where the gateway runs",
    "aws ec2 modify-instance-metadata-options": "there is no instance",
    "aws secretsmanager rotate-secret": "moto runs functions in Docker, and leaves a pending version without a value",
}
# The AWS CLI makes several requests of it; of these the parameters of the stack are checked.
DEPLOY = ["cloudformation", "deploy"]
DELIVERED_WITHIN_SECONDS = 20.0
# Beside what differs on every page.
VOLATILE = (
    (re.compile(r"(secret:email-gateway/[a-z-]+)-\w{6}\b"), r"\1-SUFFIX"),
    (re.compile(r"\b(vpce?|subnet|sg|i)-[0-9a-f]{8,17}\b"), r"\1-ID"),
    (re.compile(r"\b\d+ 202\b"), "COUNT 202"),
    (re.compile(r"\b\d+ OK, \d+ warnings\b"), "COUNT OK, COUNT warnings"),
    (re.compile(r"\b\d+\.\d+ s\b"), "SECONDS"),
    (re.compile(r"(applied \d{4}_\w+\.sql\s*(\.\.\.\s*)?)+"), "MIGRATIONS "),
)


def seen(text: str) -> list[str]:
    for pattern, stands_for in VOLATILE:
        text = pattern.sub(stands_for, text)
    return words(text)


def is_not_answered(step: Step) -> bool:
    return step.command.startswith(tuple(NOT_ANSWERED))


def follow(shell: PageShell, port: str) -> str:
    """Run every command of the page that is answered; return all that was printed."""
    printed = []
    for step in read_steps(PAGE):
        if is_not_answered(step):
            continue
        done = shell.run(step.command.replace(PORT, port))
        assert done.code == 0, f"{step.command}\n{done.text}"
        assert seen(done.text.replace(port, PORT)) == seen(step.output), step.command
        printed.append(done.text)
    return "\n".join(printed)


async def test_the_page_leads_from_an_empty_account_to_production(tmp_path: Path, watch: Watch) -> None:
    async with surroundings(tmp_path) as given:
        for password in given.passwords:
            watch.add("a password of the page", password)
        with page_shell(tmp_path, given.environ) as shell:
            printed = await asyncio.to_thread(follow, shell, given.port)
            answers = (tmp_path / "answers.txt").read_text().split()
            # Two mails that were read, one while a secret was deleted.
            await assert_delivered(given, len(answers) + 3)
        for log in ("api.log", "worker.log"):
            watch.keep(f"page-{log}", (tmp_path / log).read_text())
        assert set(answers) == {"202"}
        values = await asyncio.to_thread(kept_values, connect(given.aws_url))
        assert len(values) > 5, "the page stores some"
        left = await asyncio.to_thread(files_with, tmp_path, values)
    assert not [value for value in (*values, *given.passwords) if value in printed]
    assert left <= {"admin.header"}, "a value lies in a file"


async def assert_delivered(given: Surroundings, count: int) -> None:
    """Wait until the smarthost has taken as many mails as were accepted, and no more."""
    deadline = time.monotonic() + DELIVERED_WITHIN_SECONDS
    while len(given.smarthost.receipts) < count:
        assert time.monotonic() < deadline, f"{len(given.smarthost.receipts)} of {count} mails came"
        await asyncio.sleep(0.1)
    assert len(given.smarthost.receipts) == count
    assert all(receipt.is_encrypted for receipt in given.smarthost.receipts)


def kept_values(client: "SecretsManagerClient") -> list[str]:
    """Every value of every version of every secret of the account."""
    return [
        client.get_secret_value(SecretId=secret["ARN"], VersionId=version["VersionId"])["SecretString"].strip()
        for secret in client.list_secrets()["SecretList"]
        for version in client.list_secret_version_ids(SecretId=secret["ARN"])["Versions"]
    ]


def files_with(folder: Path, values: list[str]) -> set[str]:
    """The files of a folder that hold one of these values."""
    return {path.name for path in folder.iterdir() if any(value.encode() in path.read_bytes() for value in values)}


def test_what_is_not_answered_would_be_sent_as_botocore_models_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**AWS_ENVIRONMENT, "AWS_DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    steps = [step for step in read_steps(PAGE) if is_not_answered(step)]
    assert not [step.command for step in steps if step.output], "what nobody saw is not shown"
    assert not [known for known in NOT_ANSWERED if not any(step.command.startswith(known) for step in steps)]
    (commands,) = zip(*(find_commands(step.command) for step in steps), strict=True)
    sent = {command[1]: request_of(command) for command in commands if command[:2] != DEPLOY}
    assert sent["associate-iam-instance-profile"]["IamInstanceProfile"] == {"Name": "email-gateway"}
    assert sent["modify-instance-metadata-options"]["HttpTokens"] == "required"
    assert sent["rotate-secret"] == {"SecretId": "email-gateway/encryption-key"}


def test_a_stack_is_given_parameters_that_its_template_has() -> None:
    deployed = [command for command in fenced_commands(PAGE) if command[:2] == DEPLOY]
    assert len(deployed) == 2
    for command in deployed:
        name = command[command.index("--template-file") + 1]
        given = command[command.index("--parameter-overrides") + 1 :]
        assert {each.partition("=")[0] for each in given} <= set(Stack(name).template["Parameters"]), name
