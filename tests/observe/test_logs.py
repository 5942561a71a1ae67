import asyncio
import contextvars
import logging
import sys
import threading
import uuid
from datetime import datetime

import boto3
import pytest
from botocore.exceptions import ClientError

from email_gateway.errors import DatabaseUnavailable
from email_gateway.observe import bind, get_logger
from tests.moto_server import AWS_ENVIRONMENT, connect, moto_server
from tests.observe.captured import captured_logs

MARKS = ("MARK", "ana@example.net", "529.982.247-25", "52998224725")
log = get_logger("email_gateway.tests")


def assert_no_marks(text: str) -> None:
    assert not [mark for mark in MARKS if mark in text]


class UniqueViolationError(Exception):
    """Like asyncpg's: the message carries DETAIL with values."""

    sqlstate = "23505"

    def __init__(self) -> None:
        super().__init__("duplicate key\nDETAIL:  Key (address)=(ana@example.net MARK) already exists.")
        self.detail = "Key (address)=(ana@example.net MARK) already exists."
        self.query = "INSERT INTO t VALUES ('MARK')"


def fail_with_values() -> None:
    subject = "MARK in a local"  # noqa: F841  (locals must not be logged)
    try:
        raise UniqueViolationError
    except UniqueViolationError as error:
        error.add_note("MARK in a note")
        raise RuntimeError("while storing MARK for ana@example.net") from error


def test_a_json_line_has_time_level_logger_and_event() -> None:
    message_id = uuid.uuid4()
    with captured_logs() as captured:
        log.warning("claim_lost", message_id=message_id, count=3)
    (line,) = captured.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "email_gateway.tests",
        "event": "claim_lost",
        "message_id": str(message_id),
        "count": 3,
    }


def test_the_timestamp_is_utc() -> None:
    with captured_logs() as captured:
        log.info("started")
    assert datetime.fromisoformat(captured.lines[0]["timestamp"]).utcoffset() is not None


def test_a_level_below_the_chosen_one_is_not_written() -> None:
    with captured_logs(level="WARNING") as captured:
        log.info("started")
        logging.getLogger("email_gateway.tests").info("started")
        logging.getLogger("uvicorn.error").info("Started")
    assert captured.getvalue() == ""


def test_the_console_is_for_people_and_hides_the_same() -> None:
    with captured_logs("console") as captured:
        try:
            fail_with_values()
        except RuntimeError:
            log.exception("attempt_failed", address="ana@example.net", count=2)
    text = captured.getvalue()
    assert "attempt_failed" in text
    assert "count=2" in text
    assert "UniqueViolationError (23505)" in text
    assert "test_logs.py" in text
    assert_no_marks(text)


def test_request_id_stands_on_every_line_of_its_task() -> None:
    def serve() -> None:
        bind(request_id="req-1")
        log.info("inside")
        logging.getLogger("uvicorn.error").warning("Unsupported upgrade request.")

    with captured_logs() as captured:
        contextvars.copy_context().run(serve)
        log.info("outside")
    assert [line.get("request_id") for line in captured.lines] == ["req-1", "req-1", None]


def test_an_exception_is_logged_by_type_code_and_stack_along_its_chain() -> None:
    with captured_logs() as captured:
        try:
            fail_with_values()
        except RuntimeError:
            log.exception("attempt_failed")
    outer, inner = captured.lines[0]["exception"]
    assert outer["error"] == "RuntimeError"
    assert inner["error"] == "UniqueViolationError (23505)"
    assert [frame.split()[-1] for frame in inner["stack"]] == ["fail_with_values"]
    assert_no_marks(captured.getvalue())


def test_exceptions_of_a_group_are_logged_each() -> None:
    with captured_logs() as captured:
        try:
            raise ExceptionGroup("MARK", [ValueError("MARK"), KeyError("MARK")])
        except ExceptionGroup:
            log.exception("attempts_failed")
    assert [error["error"] for error in captured.lines[0]["exception"]] == ["ExceptionGroup", "ValueError", "KeyError"]
    assert_no_marks(captured.getvalue())


def test_our_own_errors_keep_their_message() -> None:
    with captured_logs() as captured:
        log.warning("queue_unavailable", error=DatabaseUnavailable("PostgreSQL cannot answer now (57P01)"))
    expected = "DatabaseUnavailable (database_unavailable): PostgreSQL cannot answer now (57P01)"
    assert captured.lines[0]["error"] == expected


def test_an_error_of_aws_keeps_its_code_only() -> None:
    error = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "MARK"}}, "GetSecretValue")
    with captured_logs() as captured:
        log.warning("secret_refresh_failed", error=error)
    assert captured.lines[0]["error"] == "ClientError (AccessDeniedException)"


def test_other_libraries_lines_come_without_their_arguments_and_keep_small_numbers() -> None:
    with captured_logs() as captured:
        logging.getLogger("urllib3.connectionpool").warning("Retrying (%r) after %s: %s", 2, "MARK", "/?q=MARK")
        logging.getLogger("asyncpg.pool").warning("closing connection of %d", 52998224725)
        logging.getLogger("some.library").warning(f"MARK for {MARKS[1]}")  # noqa: G004
        logging.getLogger("some.library").error("MARK %s", "MARK")
    events = [line["event"] for line in captured.lines]
    assert events[0] == "Retrying (2) after [hidden]: [hidden]"
    assert events[2].startswith("a line of some.library (test_logs:")
    assert_no_marks(captured.getvalue())


def test_other_libraries_tracebacks_come_without_messages() -> None:
    with captured_logs() as captured:
        try:
            fail_with_values()
        except RuntimeError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    assert captured.lines[0]["exception"][1]["error"] == "UniqueViolationError (23505)"
    assert_no_marks(captured.getvalue())


def test_debug_of_boto_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with moto_server() as url:
        connect(url).create_secret(Name="marked", SecretString="MARK-in-the-answer")
        with captured_logs(level="DEBUG") as captured:
            for name in ("boto3", "botocore", "urllib3"):
                logging.getLogger(name).setLevel(logging.DEBUG)  # as someone in a hurry would
            client = boto3.client("secretsmanager", endpoint_url=url, region_name="us-east-1")
            answer = client.get_secret_value(SecretId="marked", VersionStage="AWSCURRENT")
    assert answer["SecretString"] == "MARK-in-the-answer"
    assert any(line["logger"].startswith("botocore") for line in captured.lines)
    assert_no_marks(captured.getvalue())


def test_at_debug_other_libraries_stay_at_warning() -> None:
    with captured_logs(level="DEBUG"):
        for name in ("boto3", "botocore.parsers", "urllib3.connectionpool", "asyncpg", "asyncio", "httpx", "any.other"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert not logging.getLogger("uvicorn.access").isEnabledFor(logging.ERROR)
        assert logging.getLogger("email_gateway.x").isEnabledFor(logging.DEBUG)


def test_an_exception_nobody_caught_is_logged_without_its_message() -> None:
    with captured_logs() as captured:
        try:
            fail_with_values()
        except RuntimeError as error:
            sys.excepthook(type(error), error, error.__traceback__)
        thread = threading.Thread(target=fail_with_values)
        thread.start()
        thread.join()
    assert [line["event"] for line in captured.lines] == ["uncaught_exception"] * 2
    assert_no_marks(captured.getvalue())


def test_a_task_whose_exception_nobody_took_is_logged_without_it() -> None:
    async def lose() -> None:
        raise ValueError("MARK")

    async def main() -> None:
        task = asyncio.create_task(lose(), name="lost")
        await asyncio.sleep(0)
        del task

    with captured_logs() as captured:
        asyncio.run(main(), debug=True)
    assert [line["logger"] for line in captured.lines] == ["asyncio"]
    assert captured.lines[0]["exception"][0]["error"] == "ValueError"
    assert_no_marks(captured.getvalue())


def test_a_line_that_cannot_be_made_fails_nobody() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("MARK")

    with captured_logs() as captured:
        logging.getLogger("uvicorn.error").warning(Broken())
        log.warning("odd", count=Broken(), error=float("nan"))
    assert captured.lines[0]["event"] == "a line that could not be made"
    assert_no_marks(captured.getvalue())


def test_a_closed_stream_fails_nobody() -> None:
    with captured_logs() as captured:
        captured.close()
        log.info("started")
