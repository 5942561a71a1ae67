"""What may stand in a log line. Nothing passes unless it is known to be safe.

Three things are known to be safe: what our code wrote (event names, members of enums), values whose
type cannot hold personal data (UUIDs, booleans, durations), and the keys of `SAFE_KEYS` when the
value also has the form of a token. The text of foreign exceptions and of other libraries' log lines
is not: asyncpg quotes rows, urllib3 quotes paths, boto quotes bodies.
"""

import enum
import logging
import math
import re
import uuid
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from email_gateway.errors import GatewayError

HIDDEN = "[hidden]"
MAX_FRAMES = 40
MAX_CHAIN = 8
MAX_ITEMS = 50
MAX_DEPTH = 3
LARGEST_NUMBER = 10**9  # a CPF has eleven digits, a telephone number ten or more

# fmt: off
SAFE_KEYS = frozenset((
    "attempt", "attempts", "bytes", "claimed", "code", "count", "dead", "deliveries", "duration_ms", "enhanced_code",
    "error", "event", "failed", "failure", "in_doubt", "instance_id", "kind", "lane", "level", "logger", "message_id",
    "messages", "method", "migration", "mode", "names", "phase", "pid", "port", "probes", "process", "processes", "queued",
    "rate", "reason", "recipient", "rejected", "released", "request_id", "rescued", "result", "role", "root_id", "route", "seconds",
    "signal", "smtp_code", "sqlstate", "stage", "state", "status", "step", "tenant_id", "timestamp", "transport",
    "verdict", "version", "version_id", "version_ids", "worker",
))
# fmt: on
# A name may be a person's; only a secret's full name looks like this.
SHAPED_KEYS = {"name": re.compile(r"[A-Za-z0-9_+=.@/-]+/[a-z]+(-[a-z]+)*")}
TOKEN = re.compile(r"[A-Za-z0-9_./:{}+,<>=*-]{0,200}")  # no blank, no @: neither a sentence nor an address
CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# Loggers whose message templates were read: they are constants, so the template may be shown.
REVIEWED_LOGGERS = ("uvicorn", "botocore", "boto3", "s3transfer", "urllib3", "asyncpg")
# Of these also whole messages: they hold no argument, or a process id.
PLAIN_LOGGERS = ("uvicorn",)

_ADDRESS = re.compile(r"[^\s<>\"'(),;:]+@[^\s<>\"'(),;:]+")
_CREDENTIALS = re.compile(r"://\S+@\S*")
_TAX_ID = re.compile(
    r"(?<![\w-])(?:\d{3}\.?\d{3}\.?\d{3}-?\d{2}|[\dA-Z]{2}\.?[\dA-Z]{3}\.?[\dA-Z]{3}/?[\dA-Z]{4}-?\d{2})(?![\w-])"
)
# With a checksum or without, whole or cut: `store.key_text` makes them.
_API_KEY = re.compile(r"eg_[0-9a-f]{8}_[A-Za-z0-9_-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def clean_text(text: str) -> str:
    """Mask addresses, tax ids and credentials in a sentence of ours: the second net, not the first."""
    text = _CONTROL.sub(" ", text)
    text = _API_KEY.sub(HIDDEN, text)
    text = _CREDENTIALS.sub(f"://{HIDDEN}", text)
    text = _ADDRESS.sub(HIDDEN, text)
    return _TAX_ID.sub(HIDDEN, text)


def clean_event(event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the log line with everything hidden that is not known to be safe; keys stay visible."""
    return {
        key if TOKEN.fullmatch(key) else HIDDEN: value if key == "exception" else clean_value(key, value)
        for key, value in event.items()
    }


def clean_value(key: str, value: object, depth: int = 0) -> object:
    """Return what may be shown of one value under this key."""
    if type(value) is str:  # nearly all are, and the cases below cost more than the rest of the line
        return _clean_string(key, value)
    match value:
        case None | bool() | uuid.UUID():
            return value if value is None or isinstance(value, bool) else str(value)
        case enum.Enum():
            return value.value if isinstance(value.value, str | int) else value.name
        case timedelta():
            return value.total_seconds()
        case BaseException():
            return describe_error(value)
        case datetime():
            return value.isoformat() if key.endswith("_at") or key == "timestamp" else HIDDEN
        case Mapping() | list() | tuple() | set() | frozenset():
            return _clean_items(key, value, depth)
        case int() | float():
            is_measure = key in SAFE_KEYS or key.endswith(("_count", "_seconds", "_ms", "_bytes"))
            return value if is_measure and math.isfinite(value) else HIDDEN
        case str():
            return _clean_string(key, value)
    return HIDDEN


def _clean_string(key: str, value: str) -> str:
    if key == "event":
        return clean_text(value)
    if key in SHAPED_KEYS:
        return value if SHAPED_KEYS[key].fullmatch(value) else HIDDEN
    is_safe = key in SAFE_KEYS and TOKEN.fullmatch(value) and not (_TAX_ID.search(value) or _API_KEY.search(value))
    return value if is_safe else HIDDEN


def _clean_items(key: str, value: Mapping[Any, Any] | Iterable[Any], depth: int) -> object:
    if depth >= MAX_DEPTH:
        return HIDDEN
    if isinstance(value, Mapping):
        # The inner keys are data too: they must be tokens, and stand under a key known to be safe.
        return {
            str(clean_value(key, str(name))): clean_value(key, item, depth + 1)
            for name, item in list(value.items())[:MAX_ITEMS]
        }
    return [clean_value(key, item, depth + 1) for item in list(value)[:MAX_ITEMS]]


def describe_error(error: BaseException) -> str:
    """Return an error's type and code, and its message when it is one of ours."""
    code = find_code(error)
    described = type(error).__qualname__ + (f" ({code})" if code else "")
    return f"{described}: {clean_text(str(error))}" if isinstance(error, GatewayError) else described


def find_code(error: BaseException) -> str | None:
    """Return the stable code an error carries: ours, a SQLSTATE, AWS's, SMTP's or the errno."""
    try:
        response = getattr(error, "response", None)
        fields = response.get("Error") if isinstance(response, dict) else None
        candidates = (
            error.code if isinstance(error, GatewayError) else None,
            getattr(error, "sqlstate", None),
            fields.get("Code") if isinstance(fields, dict) else None,
            getattr(error, "smtp_code", None),
            getattr(error, "errno", None),
        )
    except Exception:  # noqa: BLE001  (a property may raise anything, and logging must not)
        return None
    return next((str(code) for code in candidates if code is not None and CODE.fullmatch(str(code))), None)


def describe_chain(error: BaseException) -> list[dict[str, Any]]:
    """Return the error and what caused it, outermost first: types, codes and stacks, no foreign text."""
    described: list[dict[str, Any]] = []
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting and len(described) < MAX_CHAIN:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        described.append({"error": describe_error(current), "stack": describe_stack(current.__traceback__)})
        waiting.extend(_find_causes(current))
    return described


def _find_causes(error: BaseException) -> list[BaseException]:
    members = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return members + ([cause] if cause else [])


def describe_stack(traceback: TracebackType | None) -> list[str]:
    """Return file, line and function of each frame, innermost last; neither source lines nor locals."""
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = "/".join(Path(code.co_filename).parts[-3:])
        frames.append(f"{file}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-MAX_FRAMES:]


class _Hidden:
    """Stands for an argument of another library's log line."""

    def __str__(self) -> str:
        return HIDDEN

    __repr__ = __str__


def clean_record(record: logging.LogRecord) -> str:
    """Return what may be shown of another library's log line: its template, with small numbers filled in."""
    room = record.name.partition(".")[0]
    has_template = bool(record.args) and isinstance(record.msg, str)
    if room not in (REVIEWED_LOGGERS if has_template else PLAIN_LOGGERS):
        # An unread logger may build its text from values; where it was logged is enough to find it.
        return f"a line of {clean_text(record.name)} ({record.module}:{record.lineno})"
    if not has_template:
        return clean_text(str(record.msg))
    arguments = record.args if isinstance(record.args, tuple) else ()
    try:
        return clean_text(str(record.msg) % tuple(_hide_argument(argument) for argument in arguments))
    except (TypeError, ValueError):
        return clean_text(str(record.msg))


def _hide_argument(argument: object) -> object:
    is_small = isinstance(argument, int | float) and abs(argument) < LARGEST_NUMBER
    return argument if is_small else _Hidden()
