"""How long `email-gateway doctor` takes where everything is well: Secrets Manager, PostgreSQL, Redis and a smarthost."""

import json
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bench import smtp
from bench.gateway import COMMAND, Gateway, running
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server
from tests.redis_server import running_redis

TARGET = 5.0
PREFIX = "examined"
NAMES = ("encryption-key", "encryption-salt", "admin-api-key")


@dataclass(frozen=True, slots=True)
class Examination:
    """One run of the command, from the start of its process to its end."""

    seconds: float
    exit_code: int
    broken: tuple[str, ...]

    @property
    def is_met(self) -> bool:
        return self.exit_code == 0 and self.seconds < TARGET


def measure(repeat: int, say: Callable[[str], None]) -> list[Examination]:
    """Examine a good set-up `repeat` times, with an api process and a worker running beside."""
    with (
        tempfile.TemporaryDirectory(prefix="email-gateway-redis-") as folder,
        moto_server() as aws_url,
        running_redis(Path(folder)) as (redis_url, _),
        smtp.sink(1) as (smtp_port, _),
    ):
        create_secrets(connect(aws_url), PREFIX, {name: secrets.token_urlsafe(32) for name in NAMES})
        settings = {
            **AWS_ENVIRONMENT,
            "USE_SECRETS_MANAGER": "true",
            **dict.fromkeys(("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY"), ""),
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": aws_url,
            "SECRETS_PREFIX": PREFIX,
            "REDIS_URL": redis_url,
            "TRANSPORT": "smtp",
            "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?tls=none",
        }
        with running("api", "worker", **settings) as gateway:
            found = []
            for turn in range(1, repeat + 1):
                say(f"doctor ({turn} of {repeat})")
                found.append(_examine(gateway))
            return found


def table_of(found: list[Examination]) -> Table:
    """Set the runs beside the target."""
    table = Table(title="email-gateway doctor on a good set-up")
    for column in ("median s", "slowest s", "target", "broken"):
        table.add_column(column, justify="right")
    seconds = [one.seconds for one in found]
    met = "met" if all(one.is_met for one in found) else "missed"
    broken = ", ".join(sorted({check for one in found for check in one.broken})) or "-"
    table.add_row(f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", f"exit 0, < {TARGET:.0f}: {met}", broken)
    return table


def _examine(gateway: Gateway) -> Examination:
    started = time.perf_counter()
    run = subprocess.run([*COMMAND, "doctor", "--json"], env=gateway.environ, stdout=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - started
    checks = json.loads(run.stdout)["checks"]
    return Examination(seconds, run.returncode, tuple(each["check"] for each in checks if each["level"] == "broken"))
