"""The one place where errors become exit codes, with a sentence and the next step on standard error."""

import contextlib
import sys
import traceback
from collections.abc import Iterator

from email_gateway.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DnsUnavailable,
    Forbidden,
    GatewayError,
    OperationRefused,
    Tampered,
    Unauthorized,
    WrongRootKey,
)

DONE = 0
FAILED = 1
WRONG_USAGE = 2  # what click uses
EX_CONFIG = 78  # sysexits.h: restarting will not help until someone changes the configuration

MISCONFIGURED = (ConfigurationError, WrongRootKey)
NEXT_STEPS: tuple[tuple[type[GatewayError], str], ...] = (
    (DatabaseUnavailable, "see that PostgreSQL runs and that this URL points at it, or start `email-gateway up`"),
    (DnsUnavailable, "see that the servers of DNS_RESOLVERS, or of /etc/resolv.conf, answer; then try again"),
    (WrongRootKey, "docs/rotation.md, under Recovery, goes through it step by step"),
    (Tampered, "compare with a backup: a sealed value or a wrap was changed or moved"),
    (Unauthorized, "pass a key with --api-key; `email-gateway tenants keys create` makes one"),
    (Forbidden, "see `email-gateway tenants keys list`, or make a key with `email-gateway tenants keys create`"),
)


class CommandFailed(GatewayError):
    """A command could not do what it was asked for; `next_step` says what to try."""

    code = "command_failed"

    def __init__(self, detail: str, next_step: str | None = None) -> None:
        super().__init__(detail)
        self.next_step = next_step


def exit_code_of(error: GatewayError) -> int:
    """Return the exit code of an error."""
    return EX_CONFIG if isinstance(error, MISCONFIGURED) else FAILED


def next_step_of(error: GatewayError) -> str | None:
    """Return what the person at the terminal can do about an error, if that is not in its message."""
    if isinstance(error, CommandFailed | OperationRefused):
        return error.next_step
    return next((step for kind, step in NEXT_STEPS if isinstance(error, kind)), None)


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn an error into a line on standard error and an exit code; a traceback only with LOG_LEVEL=DEBUG."""
    try:
        yield
    except GatewayError as error:
        _say(f"error: {error}")
        if (step := next_step_of(error)) is not None and step not in str(error):
            _say(f"next:  {step}")
        _log_frames(error)
        sys.exit(exit_code_of(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`).
        sys.stderr.close()
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001  # the outermost frame: nothing else would turn it into words
        # Not its text: that of a library's error may hold values.
        _say(f"error: something unexpected went wrong: {type(error).__name__} in {_place_of(error)}")
        _say("next:  LOG_LEVEL=DEBUG shows how it came to that")
        _log_frames(error)
        sys.exit(FAILED)


def _log_frames(error: BaseException) -> None:
    """Log where it happened: frames without values, and only with LOG_LEVEL=DEBUG."""
    from email_gateway.observe import get_logger  # noqa: PLC0415  # a third of the time that --help takes

    get_logger(__name__).debug("command_failed", exc_info=error)


def _place_of(error: BaseException) -> str:
    """Return file and line of the last frame that is ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/email_gateway/" in frame.filename and frame.filename != __file__] or frames
    return f"{ours[-1].filename.rpartition('/email_gateway/')[2]}:{ours[-1].lineno}"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
