import logging

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

    assert capsys.readouterr().err == "error: there is no such thing\nnext:  make one\n"


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


def test_debugging_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("email_gateway")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with pytest.raises(SystemExit), reporting():
            raise ConfigurationError("no")
    finally:
        logger.setLevel(before)

    assert "Traceback" in capsys.readouterr().err
