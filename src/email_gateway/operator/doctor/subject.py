"""What is examined, and how long each step of a start took meanwhile."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from email_gateway.foundation import find_make_password
from email_gateway.operator.doctor.findings import Finding, ok, warning
from email_gateway.secrets import Secret, SecretName
from email_gateway.settings import Settings
from email_gateway.store.connecting import MakePassword

BOUND_SECONDS = 4.0
# Slow is what takes this many times a check's bound: a start of more than 5 s, an answer after more than one.
SLOW_START, SLOW_ANSWER = 1.25, 0.25


class Steps:
    """How long each step of a start took, in seconds, in the order in which a process takes them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the block's time, also of one that fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Subject:
    """One gateway: its settings, and what only its home knows.

    `home_url` is the database of a running `up`; it counts where the settings have none, or always
    with `prefers_home`. `data` is where that database's files lie. No check takes longer than `bound`
    seconds; each question within it has a part of that.
    """

    settings: Settings
    home_url: str | None = field(default=None, repr=False)
    prefers_home: bool = False
    data: Path | None = None
    is_production: bool = False
    bound: float = BOUND_SECONDS
    steps: Steps = field(default_factory=Steps)

    @property
    def aws_region(self) -> str:
        return self.settings.aws_region or ""

    def full_name(self, name: SecretName | str) -> str:
        """Return a secret's name in Secrets Manager."""
        return f"{self.settings.secrets_prefix}/{name}"

    def database_url(self, values: Mapping[str, Secret]) -> str | None:
        """Return the database's URL as the processes find it."""
        if self.prefers_home and self.home_url:
            return self.home_url
        return value_of(values, SecretName.DATABASE_URL, self.settings.database_url) or self.home_url

    def make_password(self, url: str) -> MakePassword | None:
        """Return what makes a password for each login with this URL, where the processes use such."""
        return None if url == self.home_url else find_make_password(self.settings)


def value_of(values: Mapping[str, Secret], name: SecretName, setting: str | None) -> str | None:
    """Return the secret's value, else the setting's."""
    secret = values.get(name)
    return secret.value if secret else setting


def check_start(subject: Subject) -> Finding:
    """Say how long a start's steps took, and name the slowest where they took long."""
    steps = subject.steps
    shown = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in steps.seconds.items())
    total = sum(steps.seconds.values())
    if total < subject.bound * SLOW_START:
        return ok("start-up", f"{total:.2f} s: {shown}")
    slowest = max(steps.seconds, key=steps.seconds.__getitem__)
    return warning(
        "start-up",
        f"{total:.2f} s: {shown}",
        f"A process starts slowly because of the step {slowest}. Far from Secrets Manager, an interface endpoint in"
        " the VPC shortens it; far from PostgreSQL, move closer.",
        "aws ec2 describe-vpc-endpoints --filters Name=service-name,Values=*secretsmanager",
    )
