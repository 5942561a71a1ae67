import subprocess
import sys

import pytest

from email_gateway.cli.exits import EX_CONFIG, FAILED, CommandFailed, exit_code_of, reporting
from email_gateway.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Forbidden,
    GatewayError,
    NotFound,
    SchemaMismatch,
    Tampered,
    WrongRootKey,
)


@pytest.mark.parametrize("error", [ConfigurationError("x"), WrongRootKey("x")])
def test_what_no_restart_can_mend_exits_78(error: GatewayError) -> None:
    assert exit_code_of(error) == EX_CONFIG == 78


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("x"), NotFound("x"), SchemaMismatch("x"), Tampered("x"), CommandFailed("x")]
)
def test_every_other_error_of_ours_exits_1(error: GatewayError) -> None:
    assert exit_code_of(error) == FAILED == 1


def test_an_error_is_a_line_and_a_next_step_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_, reporting():
        raise DatabaseUnavailable("PostgreSQL does not answer")

    captured = capsys.readouterr()
    assert exit_.value.code == 1
    assert captured.out == ""
    assert captured.err.splitlines()[0] == "error: PostgreSQL does not answer"
    assert captured.err.splitlines()[1].startswith("next:  ")
    assert "Traceback" not in captured.err


def test_a_command_can_name_its_own_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), reporting():
        raise CommandFailed("there is no such thing", "make one")

    assert capsys.readouterr().err.startswith("error: there is no such thing\nnext:  make one\n")


def test_a_refused_key_says_where_keys_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), reporting():
        raise Forbidden("this API key is not known")

    assert "tenants keys create" in capsys.readouterr().err


def test_an_unexpected_error_shows_its_place_and_never_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_, reporting():
        raise RuntimeError("ana@example.net")

    told = capsys.readouterr().err
    assert exit_.value.code == 1
    assert "RuntimeError in " in told
    assert "test_exits.py" in told
    assert "ana@example.net" not in told


@pytest.mark.parametrize(("level", "is_traced"), [("DEBUG", True), ("INFO", False)])
def test_only_debugging_shows_the_frames_and_even_then_no_value(level: str, is_traced: bool) -> None:
    script = (
        "from email_gateway.observe import configure_logging\n"
        "from email_gateway.cli.exits import reporting\n"
        f"configure_logging('console', {level!r})\n"
        "with reporting():\n"
        "    raise RuntimeError('ana@example.net')"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert ("<module>" in done.stderr) is is_traced
    assert "ana@example.net" not in done.stderr
