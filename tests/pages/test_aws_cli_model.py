"""Every `aws` command of every page is one that the AWS CLI knows, and the judge of that finds what is wrong."""

import os
from pathlib import Path

import pytest

from tests.pages.aws_cli_model import fenced_commands, find_commands, inline_commands, problems

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_known_to_the_aws_cli(page: Path) -> None:
    text = page.read_text()
    found = [(words, problems(words)) for words in fenced_commands(text)]
    found += [(words, problems(words, complete=False)) for words in inline_commands(text) if len(words) > 1]
    assert [(words, told) for words, told in found if told] == []


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("aws secretmanager list-secrets", "there is no service secretmanager"),
        ("aws secretsmanager read-secret", "secretsmanager has no operation read-secret"),
        ("aws kms create-key --key-uses X", "kms create-key has no option --key-uses"),
        (
            "aws kms create-key --origin AWS",
            "--origin is one of AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE, not AWS",
        ),
        (
            "aws secretsmanager rotate-secret --secret-id a --rotation-rules AutomaticallyAfterDay=90",
            "--rotation-rules knows no AutomaticallyAfterDay",
        ),
        ("aws secretsmanager list-secrets --filters Key", "--filters cannot be read: Key"),
        ("aws secretsmanager update-secret-version-stage --secret-id a", "needs --version-stage"),
        ("aws cloudformation deploy --stack a --template-file a --stack-name a", "has no option --stack"),
    ],
)
def test_a_mistake_is_named(command: str, told: str) -> None:
    (words,) = find_commands(command)
    assert [problem for problem in problems(words) if told in problem], problems(words)


def test_commands_are_found_where_a_shell_would_run_them() -> None:
    text = (
        'KEY=$(aws kms create-key \\\n --query "a | b" --output text) | cat; aws sts get-caller-identity > x # aws no\n'
    )
    assert list(find_commands(text))[:2] == [
        ["kms", "create-key", "--query", "a | b", "--output", "text"],
        ["sts", "get-caller-identity"],
    ]


def test_the_cli_leaves_nothing_in_the_environment_of_other_tests() -> None:
    assert "AWS_DATA_PATH" not in os.environ
