"""A finding: what was seen, what it means, and the next command; and the report of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from email_gateway.errors import ConfigurationError

AGAIN = "email-gateway doctor"


class Level(StrEnum):
    """How bad it is; `skipped` is what could not be looked at because something else is broken."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer. No field holds the value of a secret, a user's name or an address of a person.

    `next_step` is a command that can be copied; it is empty where all is well.
    """

    check: str
    level: Level
    seen: str
    means: str = ""
    next_step: str = ""


def ok(check: str, seen: str) -> Finding:
    return Finding(check, Level.OK, seen)


def skipped(check: str, why: str) -> Finding:
    return Finding(check, Level.SKIPPED, why)


def warning(check: str, seen: str, means: str, next_step: str) -> Finding:
    return Finding(check, Level.WARNING, seen, means, next_step)


def broken(check: str, seen: str, means: str, next_step: str) -> Finding:
    return Finding(check, Level.BROKEN, seen, means, next_step)


@dataclass(frozen=True, slots=True)
class Report:
    """Every finding, in the order in which a start needs what it speaks of."""

    findings: Sequence[Finding]
    took_seconds: float

    @property
    def level(self) -> Level:
        """Return the worst level; what was skipped follows from something broken."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in (Level.BROKEN, Level.WARNING) if level in levels), Level.OK)


def report_settings(error: ConfigurationError) -> Report:
    """Return the report of a gateway whose settings cannot work: nothing else can be looked at."""
    means = "No process starts with these: each exits with 78 and this message. docs/settings.md lists every setting."
    return Report([broken("settings", str(error), means, AGAIN)], 0.0)
