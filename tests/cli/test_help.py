import subprocess
import sys

import pytest
from typer.testing import CliRunner

from email_gateway.cli import COMMANDS, app, load_command

EVERY_COMMAND = [
    "up", "api", "worker", "migrate", "send", "status", "login", "tenants list", "tenants create",
    "domains add", "domains list", "domains show", "domains verify", "domains rotate", "domains remove",
    "tenants show", "tenants rename", "tenants suspend", "tenants resume", "tenants keys rotate",
    "tenants keys list", "tenants keys create", "tenants keys revoke", "keys status", "keys verify", "keys retire",
    "keys rescue", "keys renew", "keys reseal", "keys index rotate", "keys index drop", "aws rotation-zip", "aws template", "aws policy",
    "aws trust", "queue", "queue hold",
    "queue release", "queue flush", "dlq list", "dlq show", "dlq retry", "dlq discard", "trace", "doctor",
    "secrets init", "secrets verify", "secrets rotate", "secrets rollback", "secrets set", "secrets refresh",
    "secrets status", "secrets export", "secrets restore", "secrets drill", "secrets cost", "secrets audit",
    "secrets show-rotation",
]  # fmt: skip


def test_the_help_lists_every_command() -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    for name in COMMANDS:
        assert f" {name} " in told


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_each_command_what_it_says_itself(name: str) -> None:
    own = str(load_command(name).help).partition("\n\n")[0]
    assert COMMANDS[name][1] == " ".join(own.split())


def test_the_list_is_printed_without_importing_the_commands() -> None:
    program = (
        "import sys; from email_gateway.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted(name for name in sys.modules if name.startswith('email_gateway.')))"
    )
    told = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True)
    loaded = told.stdout.splitlines()[-1]
    assert "email_gateway.cli.exits" in loaded
    for heavy in ("store", "vault", "api", "observe", "cli.status"):
        assert f"email_gateway.{heavy}'" not in loaded


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_each_command_teaches_by_an_example(command: str) -> None:
    answer = CliRunner().invoke(app, [*command.split(), "--help"])
    assert answer.exit_code == 0
    assert f"email-gateway {command}" in answer.output.partition("Example")[2]


@pytest.mark.parametrize("command", ["api", "worker", "aws"])
def test_what_only_parents_use_stays_out_of_the_help(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"]).output
    assert "-fd" not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["send"],
        ["up", "--port", "70000"],
        ["up", "--nonsense"],
        ["tenants", "create"],
        ["keys", "renew"],
        ["keys", "renew", "--tenant", "billing", "--all"],
        ["keys", "reseal"],
        ["keys", "index", "rotate"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_version_is_one_line() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.split()[0] == "email-gateway"
