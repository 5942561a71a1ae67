"""PostgreSQL as a managed service runs it: a primary with a synchronous standby, both behind one address."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench.gateway import Gateway, free_port
from email_gateway.embedded import EmbeddedPostgres
from email_gateway.embedded.account import server_account
from email_gateway.embedded.programs import binaries
from tests.flow.mailing import wait_until


class Relay:
    """One address for whichever server is the primary now: bytes pass through in both directions."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._run(asyncio.start_server(self._serve, "127.0.0.1", self.port))

    def stop(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def point_to(self, target: int) -> None:
        """Send new connections to this port of loopback, and cut those there are."""
        self._run(self._point_to(target))

    def _run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _point_to(self, target: int) -> None:
        self._target = target
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        await self._point_to(self._target)
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        if serving:
            await asyncio.wait(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._open(writer), contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            with self._open(far_writer):
                pumps = [asyncio.create_task(pump(*ends)) for ends in ((reader, far_writer), (far_reader, writer))]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for one in pumps:
                    one.cancel()

    @contextlib.contextmanager
    def _open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


class Pair:
    """A gateway's PostgreSQL with its standby; `url` leads to the primary of the moment."""

    def __init__(self, gateway: Gateway, standby: EmbeddedPostgres, relay: Relay) -> None:
        self._gateway = gateway
        self._standby = standby
        self._relay = relay

    @property
    def url(self) -> str:
        """The database as clients are told it, whatever happens behind."""
        parts = urlsplit(self._gateway.postgres.url)
        return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self._relay.port}"))

    def kill_primary(self) -> None:
        """End the primary as a power cut would."""
        assert self._gateway.postgres.pid is not None
        os.kill(self._gateway.postgres.pid, signal.SIGKILL)

    def promote(self) -> None:
        """Make the standby the primary, and lead everybody to it."""
        psql(self._standby.url, "SELECT pg_promote()")
        self._gateway.postgres = self._standby
        self._relay.point_to(port_of(self._standby.url))


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def psql(url: str, statement: str) -> str:
    """Run one statement on a server that may be a standby, which the gateway's own pool refuses."""
    run = subprocess.run([binaries() / "psql", url, "-Atc", statement], check=True, capture_output=True, text=True)
    return run.stdout.strip()


@contextlib.contextmanager
def replicated(gateway: Gateway) -> Iterator[Pair]:
    """Give the gateway's PostgreSQL a standby that every COMMIT waits for, and an address for the two."""
    primary = gateway.postgres.url
    with tempfile.TemporaryDirectory(prefix="email-gateway-standby-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # the database's own user must be able to enter
        copy_data(primary, gateway.home / "postgres", home / "postgres")
        standby = EmbeddedPostgres(home)
        relay = Relay(port_of(primary))
        relay.start()
        try:
            standby.start()
            psql(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            psql(primary, "SELECT pg_reload_conf()")
            wait_until(lambda: psql(primary, "SELECT sync_state FROM pg_stat_replication") == "sync", what="a standby")
            yield Pair(gateway, standby, relay)
        finally:
            relay.stop()
            standby.stop()


def copy_data(primary: str, source: Path, target: Path) -> None:
    """Copy a running server's data to where an embedded server looks for its own, as a standby of it."""
    target.mkdir()
    shutil.copy(source / "password", target / "password")
    subprocess.run(
        [binaries() / "pg_basebackup", "-d", primary, "-D", target / "data", "-R", "-c", "fast"],
        check=True,
        capture_output=True,
    )
    account = server_account(source / "data")
    for path in (target / "data", *(target / "data").rglob("*")):
        os.chown(path, account.uid, account.gid)
