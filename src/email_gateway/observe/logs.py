"""Log lines: JSON for machines or a readable console, from structlog and stdlib logging alike.

One line per event on standard error, so that standard output stays free for answers. Every line
passes `redaction`, also in a process that has configured nothing.
"""

import json
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import structlog

from email_gateway.observe.redaction import HIDDEN, clean_event, clean_record, describe_chain

OURS = "email_gateway"
LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}
# Other libraries stay at WARNING whatever LOG_LEVEL says: their debug lines are bodies and headers.
FOREIGN_LEVEL = logging.WARNING
# Named because their own defaults or users set them lower, uvicorn because its start is worth a line.
FOREIGN_LEVELS = {
    "asyncio": FOREIGN_LEVEL,
    "asyncpg": FOREIGN_LEVEL,
    "boto3": FOREIGN_LEVEL,
    "botocore": FOREIGN_LEVEL,
    "s3transfer": FOREIGN_LEVEL,
    "urllib3": FOREIGN_LEVEL,
    "httpx": FOREIGN_LEVEL,
    "httpcore": FOREIGN_LEVEL,
    "redis": FOREIGN_LEVEL,
    "uvicorn": logging.INFO,
    "uvicorn.error": logging.INFO,
    # Its lines are client addresses and paths with queries; the API logs the route's template instead.
    "uvicorn.access": logging.CRITICAL,
}

ENCODER = json.JSONEncoder(separators=(",", ":"), default=lambda _: HIDDEN)

Event = MutableMapping[str, Any]
Render = Callable[[dict[str, Any]], str]


class Line:
    """The end of a logger's chain: knows the logger's name, writes one finished line."""

    lock = threading.RLock()  # a finaliser may log while this thread writes
    stream: TextIO | None = None  # None follows sys.stderr, which tests and servers replace

    def __init__(self, name: str = OURS) -> None:
        self.name = name

    def msg(self, line: str) -> None:
        stream = Line.stream or sys.stderr
        with Line.lock:
            try:
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError):
                # A closed pipe or a full disk must not fail the request that logs.
                pass

    debug = info = warning = error = critical = exception = log = msg


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of a module; give it `__name__`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def bind(**values: object) -> None:
    """Add these values, such as `request_id`, to every line that this task logs from here on."""
    structlog.contextvars.bind_contextvars(**values)


def configure_logging(settings_format: str, level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process, also of other libraries, to `stream` (standard error).

    Also takes over uncaught exceptions, whose messages the interpreter would print. Call it once
    per process and before a server starts; start uvicorn with `log_config=None`.
    """
    Line.stream = stream
    _configure_structlog(settings_format, level)
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(max(LEVELS[level], FOREIGN_LEVEL))
    logging.getLogger(OURS).setLevel(LEVELS[level])
    for name, lowest in FOREIGN_LEVELS.items():
        foreign = logging.getLogger(name)
        foreign.handlers, foreign.propagate = [], True
        foreign.setLevel(max(LEVELS[level], lowest))
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _configure_structlog(settings_format: str, level: str) -> None:
    structlog.configure(
        processors=_chain(settings_format),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=Line,
        cache_logger_on_first_use=False,  # modules make their loggers before a process is configured
    )


def _chain(settings_format: str) -> list[structlog.typing.Processor]:
    render = _render_json if settings_format == "json" else _make_console()
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _finish(render),
    ]


def _finish(render: Render) -> structlog.typing.Processor:
    def finish(logger: Line, _method: str, event: Event) -> str:
        error = _take_error(event)
        for unsafe in ("exception", "stack_info", "stack"):
            event.pop(unsafe, None)
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": event.pop("level", "info"),
            "logger": event.pop("logger", None) or logger.name,
            "event": event.pop("event", ""),
            **clean_event(event),
        }
        line["event"] = clean_event({"event": line["event"]})["event"]
        if error is not None:
            line["exception"] = describe_chain(error)
        return render(line)

    return finish


def _take_error(event: Event) -> BaseException | None:
    given = event.pop("exc_info", None)
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None


def _render_json(line: dict[str, Any]) -> str:
    return ENCODER.encode(line)


def _make_console() -> Render:
    colours = sys.stderr.isatty() if hasattr(sys.stderr, "isatty") else False
    console = structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False)

    def render(line: dict[str, Any]) -> str:
        errors = line.pop("exception", [])
        text = str(console(None, "", line))
        return "\n".join([text, *(part for error in errors for part in _render_error(error))])

    return render


def _render_error(error: dict[str, Any]) -> list[str]:
    return [f"  {error['error']}", *(f"    {frame}" for frame in error["stack"])]


class _Handler(logging.Handler):
    """Takes stdlib records into the same chain, without their text."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = clean_record(record)
        except Exception:  # noqa: BLE001  (whatever an argument does, who logs must not fail)
            text = "a line that could not be made"
        line, level = Line(record.name), record.levelname.lower()
        event: Any = {"event": text, "exc_info": record.exc_info}
        for processor in structlog.get_config()["processors"]:
            event = processor(line, level, event)
        line.msg(str(event))


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit) or error is None:
        return
    get_logger(OURS).critical("uncaught_exception", exc_info=error.with_traceback(traceback))


_configure_structlog("console", "INFO")
