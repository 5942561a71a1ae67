"""What a configured process would write to its log, for the length of a block."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from email_gateway.observe import configure_logging
from email_gateway.observe.logs import FOREIGN_LEVELS, OURS, Line


class Captured(io.StringIO):
    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@contextmanager
def captured_logs(settings_format: str = "json", level: str = "DEBUG") -> Iterator[Captured]:
    """Configure logging into memory, and put everything back as it was."""
    root, names = logging.getLogger(), [None, OURS, *FOREIGN_LEVELS]
    states = {name: (logging.getLogger(name).level, logging.getLogger(name).handlers) for name in names}
    hooks, config, stream = (
        (sys.excepthook, threading.excepthook, sys.unraisablehook),
        structlog.get_config(),
        Line.stream,
    )
    captured = Captured()
    configure_logging(settings_format, level, captured)
    try:
        yield captured
    finally:
        assert root.handlers is not states[None][1]
        for name, (lowest, handlers) in states.items():
            logging.getLogger(name).setLevel(lowest)
            logging.getLogger(name).handlers = handlers
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        structlog.configure(**config)
        Line.stream = stream
