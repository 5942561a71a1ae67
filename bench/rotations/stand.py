"""The stand: PostgreSQL, an emulated Secrets Manager behind a proxy, api processes, workers, traffic."""

import asyncio
import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench.gateway import Gateway
from email_gateway.embedded import EmbeddedPostgres
from email_gateway.store.accounts import create_api_key, create_tenant
from email_gateway.store.database import Database, Queries
from tests.dns_server import DnsServer, serving_zone
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.moto_server import AWS_ENVIRONMENT, REGION, connect, create_secrets, moto_server

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

PREFIX = "load-test"  # the emulator keeps one account for all that run in a process
ROLE = "gateway_login"
API_PROCESSES = 2
FIRST_TENANTS = 4
# Off, and none of it from the environment: everything comes from Secrets Manager.
UNSET = ("USE_SECRETS_MANAGER", "DATABASE_URL", "ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")


def new_value() -> str:
    return secrets.token_urlsafe(32)


@dataclass
class Stand:
    """Everything that runs. `hidden` is what no log may hold, by value."""

    gateway: Gateway
    proxy: FaultProxy
    client: "SecretsManagerClient"
    workers: tuple[str, ...]
    logs: Path
    zone: DnsServer
    hidden: dict[str, str] = field(default_factory=dict)
    api_keys: list[str] = field(default_factory=list)

    def ask(self, work: Callable[[Queries], Any]) -> Any:
        """Let `work` use a superuser's connection to the database, and return what it returns."""

        async def run() -> Any:
            db = await Database.connect(self.gateway.postgres.url, pool_size=1)
            try:
                return await work(db)
            finally:
                await db.close()

        return asyncio.run(run())

    def sql(self, statement: str) -> list[Any]:
        """Run a statement as the database's superuser."""
        return list(self.ask(lambda db: db.fetch(statement)))

    def database_secret(self, password: str) -> str:
        """Return the JSON that RDS keeps for a database's user."""
        url = urlsplit(self.gateway.postgres.url)
        parts = {"engine": "postgres", "host": url.hostname, "port": url.port, "dbname": url.path.lstrip("/")}
        return json.dumps({**parts, "username": ROLE, "password": password})

    def start_all(self) -> None:
        for part in ("api", *self.workers):
            self.gateway.start(part)

    def restart_all(self) -> None:
        """End every process kindly and start it again."""
        self.gateway.stop()
        self.start_all()

    def open_everything(self) -> dict[str, dict[str, int]]:
        """Have a new process open every sealed value."""
        with (self.logs / "opening.log").open("ab") as log:
            run = subprocess.run(
                [sys.executable, "-m", "bench.rotations.opening"],
                env=self.gateway.environ,
                check=True,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        counts: dict[str, dict[str, int]] = json.loads(run.stdout)
        return counts


@contextlib.contextmanager
def kept_on_failure(prefix: str) -> Iterator[Path]:
    """Make a folder for logs, and delete it unless something is raised."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    except BaseException:
        print(f"The logs of every process are kept in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)


@contextlib.contextmanager
def standing(logs: Path, *, workers: int, tenants: int) -> Iterator[Stand]:
    """Put the stand up, every process started, and take it down."""
    with tempfile.TemporaryDirectory(prefix="email-gateway-rotations-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        home.chmod(0o755)  # the database's own user must be able to enter
        postgres = EmbeddedPostgres(home)
        stack.callback(lambda: shutil.copy(home / "postgres.log", logs / f"postgres-{home.name}.log"))
        stack.callback(postgres.stop)
        postgres.start()
        moto_url = stack.enter_context(moto_server())
        proxy, proxy_url = stack.enter_context(fault_proxy(moto_url))
        zone = stack.enter_context(serving_zone())
        settings = {
            **dict.fromkeys(UNSET, ""),
            **AWS_ENVIRONMENT,
            # As deployed but for the inbox, which answers as servers do here alone: there are replies to seal.
            "APP_ENV": "test",
            "USE_SECRETS_MANAGER": "true",
            "LOG_FORMAT": "json",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": proxy_url,
            "SECRETS_PREFIX": PREFIX,
            "TRANSPORT": "inbox",
            "DNS_RESOLVERS": zone.address,
            "API_PROCESSES": str(API_PROCESSES),
            "LOG_LEVEL": "DEBUG",
        }
        gateway = Gateway(home, postgres, settings, logs)
        names = tuple(f"worker-{number}" for number in range(1, workers + 1))
        stand = Stand(gateway, proxy, connect(moto_url), names, logs, zone)
        _prepare(stand, tenants)
        stack.callback(gateway.stop)
        stand.start_all()
        yield stand


def _prepare(stand: Stand, tenants: int) -> None:
    gateway, password = stand.gateway, new_value()
    superuser = {"DATABASE_URL": gateway.postgres.url, "USE_SECRETS_MANAGER": "false"}
    own, gateway.environ = gateway.environ, {**gateway.environ, **superuser}
    gateway.command("migrate")
    gateway.environ = own
    stand.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}' IN ROLE email_gateway_service, email_gateway_tenant")
    values = {
        **{name: new_value() for name in ("encryption-key", "encryption-salt", "admin-api-key", "rotation-key")},
        "database-url": stand.database_secret(password),
    }
    create_secrets(stand.client, PREFIX, values)
    stand.hidden |= {value: name for name, value in values.items()}
    stand.hidden |= {password: "a database password", str(urlsplit(gateway.postgres.url).password): "the superuser's"}

    async def make_tenants() -> list[str]:
        db = await Database.connect(gateway.postgres.url, pool_size=1)
        try:
            made = [await create_tenant(db, f"tenant-{number}", actor="bench") for number in range(tenants)]
            return [(await create_api_key(db, each.tenant_id, "load", actor="bench")).secret for each in made]
        finally:
            await db.close()

    stand.api_keys = asyncio.run(make_tenants())
    stand.hidden |= dict.fromkeys(stand.api_keys, "an API key")


class Callers:
    """The process that makes the traffic, and what it has said so far."""

    def __init__(self, stand: Stand, rate: float, seconds: float) -> None:
        self.done = self.failed = 0
        # Four tenants from the beginning; the others come while it runs, so that keys are made throughout.
        later = stand.api_keys[FIRST_TENANTS:]
        opens_at = [0.0] * FIRST_TENANTS + [seconds * (turn + 1) / (len(later) + 1) for turn in range(len(later))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.rotations.traffic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        plan = {
            "port": stand.gateway.port,
            "rate": rate,
            "tenants": list(zip(opens_at, stand.api_keys, strict=True)),
        }
        self._command(json.dumps(plan))
        self._read()
        self._following: threading.Thread | None = None
        self._told: dict[str, Any] = {}

    def load(self) -> None:
        """Begin to make requests."""
        self._command("load")
        self._following = threading.Thread(target=self._follow, daemon=True)
        self._following.start()

    def stop(self) -> dict[str, Any]:
        """Make no more requests, and return what came of them."""
        self._command("stop")
        assert self._following is not None
        self._following.join()
        if not self._told:
            raise RuntimeError("the callers' process has died: its reason stands above")
        return self._told

    def read_back(self) -> dict[str, int]:
        """Have every mail read that was sent; returns how many were, and what was wrong how often."""
        self._command("read")
        back: dict[str, int] = self._read()["back"]
        return back

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _follow(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was closed before it was stopped
            while "samples" not in (told := self._read()):
                self.done, self.failed = told["done"], told["failed"]
            self._told = told

    def _command(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the callers' process has died: its reason stands above")
        told: dict[str, Any] = json.loads(line)
        return told


@contextlib.contextmanager
def calling(stand: Stand, rate: float, seconds: float) -> Iterator[Callers]:
    """Have callers ready, and end them."""
    callers = Callers(stand, rate, seconds)
    try:
        yield callers
    finally:
        callers.close()


def wait_until(is_there: Callable[[], bool], within: float, every: float = 0.1) -> float | None:
    """Return the seconds until it is there, or None when it is not within the time."""
    began = time.monotonic()
    while not is_there():
        if time.monotonic() - began > within:
            return None
        time.sleep(every)
    return time.monotonic() - began


def count_processes(stand: Stand) -> int:
    """Return how many processes the fleet has."""
    return API_PROCESSES + len(stand.workers)


def log_files(stand: Stand) -> Sequence[Path]:
    """Return the files with what the processes said."""
    return sorted(file for file in stand.logs.iterdir() if file.is_file())
