"""PostgreSQL as it may be met: not ours to use, not the primary, or behind a pooler."""

import asyncio
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.embedded.cluster import SETTINGS
from email_gateway.errors import DatabaseRefused
from email_gateway.operator.doctor import Finding, Level, Subject
from email_gateway.operator.doctor.database import Place, _judge_refusal, _judge_version, check_database
from email_gateway.operator.doctor.secret_values import Values
from email_gateway.settings import load_settings
from email_gateway.store.database import Database
from email_gateway.store.logins import LOGINS, MIGRATOR, PROCESS, prepare_logins
from email_gateway.store.migrations import migrate
from email_gateway.store.server import Server
from tests.operator.doctor.stand import PATIENT
from tests.plugins.marks import Watch
from tests.plugins.system_packages import get_program
from tests.up.running import eventually

pytestmark = pytest.mark.anyio

UNREAD = Values({}, (), is_complete=True)
KEYS = {name: f"{name}-{'x' * 40}" for name in ("ENCRYPTION_KEY", "ENCRYPTION_SALT", "ADMIN_API_KEY")}


async def look(url: str | None, data: Path | None = None, bound: float = PATIENT) -> dict[str, Finding]:
    subject = Subject(load_settings(KEYS), home_url=url if data else None, data=data, bound=bound)
    findings = await check_database(subject, url, UNREAD)
    return {finding.check: finding for finding in findings}


async def test_a_token_that_rds_refuses_is_told_from_a_password(database_url: str) -> None:
    settings = load_settings({**KEYS, "DATABASE_IAM_AUTH": "true", "AWS_REGION": "us-east-1"})
    place = Place.of(database_url)
    subject = Subject(settings)
    assert subject.make_password(database_url) is not None
    assert Subject(settings, home_url=database_url).make_password(database_url) is None
    refused = _judge_refusal(DatabaseRefused("28000"), place, by_iam=True)
    assert (refused.level, refused.seen) == (Level.BROKEN, f"{place} refuses the token (SQLSTATE 28000)")
    assert "rds-db:connect" in refused.means
    assert "GRANT rds_iam TO email_gateway_process" in refused.next_step
    (unfit,) = await check_database(subject, database_url, UNREAD)
    assert unfit.level is Level.BROKEN
    assert "sslmode=verify-full" in unfit.means


@pytest.fixture
def server(watch: Watch) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, which may be set up badly."""
    with tempfile.TemporaryDirectory(prefix="email-gateway-doctor-") as home:
        Path(home).chmod(0o755)  # the server's own user must be able to enter
        server = EmbeddedPostgres(Path(home))
        try:
            watch.add("the superuser's password", urlsplit(server.start()).password or "")
            yield server
        finally:
            server.stop()


async def migrated(server: EmbeddedPostgres) -> None:
    await prepare_logins(server.url, {login: server.password_of(login) for login in LOGINS})
    await migrate(server.url_of(MIGRATOR))


async def test_no_database_at_all_says_what_starts_one() -> None:
    finding = (await look(None))["postgresql"]
    assert (finding.level, finding.next_step) == (Level.BROKEN, "email-gateway up")


async def test_the_login_of_the_processes_is_well_and_that_of_the_migrations_is_not_for_them(
    server: EmbeddedPostgres,
) -> None:
    await migrated(server)
    assert {finding.level for finding in (await look(server.url_of(PROCESS))).values()} <= {Level.OK, Level.SKIPPED}
    owner = (await look(server.url_of(MIGRATOR)))["login"]
    assert (owner.level, owner.seen) == (Level.BROKEN, "may not act as email_gateway_tenant")
    superuser = await Database.connect(server.url, pool_size=1)
    await superuser.execute(f"GRANT email_gateway_tenant TO {MIGRATOR}")
    await superuser.close()
    owner = (await look(server.url_of(MIGRATOR)))["login"]
    assert (owner.level, owner.seen) == (Level.WARNING, "processes log in as the owner of the tables")


async def test_a_superuser_is_warned_of_with_where_the_set_up_stands(server: EmbeddedPostgres) -> None:
    await migrated(server)
    finding = (await look(server.url))["login"]
    assert finding.level is Level.WARNING
    assert "docs/settings.md" in finding.means


async def test_a_server_that_does_not_sync_is_broken(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    monkeypatch.setitem(SETTINGS, "fsync", "off")
    finding = (await look(server.start()))["postgresql"]
    assert (finding.level, finding.seen) == (Level.BROKEN, "fsync is off")
    assert "ALTER SYSTEM SET fsync = on" in finding.next_step


async def test_pages_that_can_tear_are_warned_of(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    monkeypatch.setitem(SETTINGS, "full_page_writes", "off")
    server.start()
    await migrated(server)
    assert (await look(server.url_of(PROCESS)))["postgresql"].level is Level.WARNING


async def test_a_standby_is_broken_and_its_primary_is_asked_for(server: EmbeddedPostgres) -> None:
    server.stop()
    cluster = server._started
    signal = cluster.data / "standby.signal"
    signal.touch()
    os.chown(signal, cluster.account.uid, cluster.account.gid)
    finding = (await look(server.start()))["postgresql"]
    assert finding.level is Level.BROKEN
    assert "is a standby" in finding.seen
    assert "pg_stat_wal_receiver" in finding.next_step


async def test_a_server_that_says_nothing_is_named_in_time() -> None:
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        finding = (await look(f"postgresql://u:p@127.0.0.1:{port}/d", bound=0.5))["postgresql"]
    assert (finding.level, finding.next_step) == (Level.BROKEN, f"pg_isready -h 127.0.0.1 -p {port}")
    assert "no answer" in finding.seen


def test_a_server_that_is_too_old_is_broken() -> None:
    server = Server(
        version_number=140_012,
        version="14.12",
        full_page_writes="on",
        has_synchronous_standby=False,
        connection_limit=97,
        connections=1,
        database_size=0,
        is_encrypted=True,
        is_superuser=False,
        login_limit=None,
        is_owner=False,
        acts_for_tenants=True,
        closed=(),
        is_pooled=False,
        shares_backends=False,
    )
    finding = _judge_version(server, Place.of("postgresql://u:p@db.example.com/d"))
    assert (finding.level, finding.seen) == (Level.BROKEN, "PostgreSQL 14.12, encrypted")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:p@db.example.com:6432/d", "db.example.com:6432"),
        ("postgresql://u:p@one.example.com:5433,two.example.com:5434/d", "one.example.com:5433"),
        ("postgresql://u:p@[::1]/d", "::1:5432"),
        ("postgresql:///d?host=/run/postgresql", "/run/postgresql:5432"),
    ],
)
def test_a_place_is_the_first_server_of_a_url_without_who_logs_in(url: str, place: str) -> None:
    assert str(Place.of(url)) == place


@pytest.mark.parametrize("sqlstate", ["26000", "42P05"])
def test_prepared_statements_that_get_lost_tell_of_a_pooler(sqlstate: str) -> None:
    finding = _judge_refusal(
        DatabaseRefused(sqlstate, None), Place.of("postgresql://u:p@db.example.com/d"), by_iam=False
    )
    assert (finding.check, finding.level) == ("pooler", Level.BROKEN)


async def test_a_login_that_may_not_act_for_tenants_is_broken_with_the_grant(server: EmbeddedPostgres) -> None:
    await migrated(server)
    superuser = await Database.connect(server.url, pool_size=1)
    await superuser.execute(f"REVOKE email_gateway_tenant FROM {PROCESS}")
    finding = (await look(server.url_of(PROCESS)))["login"]
    await superuser.close()
    assert (finding.level, finding.seen) == (Level.BROKEN, "may not act as email_gateway_tenant")
    assert f"GRANT email_gateway_tenant TO {PROCESS}" in finding.next_step


async def test_few_connections_left_are_warned_of(server: EmbeddedPostgres) -> None:
    await migrated(server)
    superuser = await Database.connect(server.url, pool_size=1)
    await superuser.execute(f"ALTER ROLE {PROCESS} CONNECTION LIMIT 2")
    finding = (await look(server.url_of(PROCESS)))["connections"]
    await superuser.close()
    assert finding.level is Level.WARNING
    assert "of 2 in use" in finding.seen


@pytest.mark.parametrize(("free", "level"), [(2**40, Level.OK), (2**30, Level.WARNING), (2**20, Level.BROKEN)])
async def test_what_is_free_is_judged_where_the_files_are_ours(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    monkeypatch.setattr("email_gateway.operator.doctor.database.free_bytes", lambda _path: free)
    await migrated(server)
    assert (await look(server.url_of(PROCESS), data=server._started.home))["space"].level is level


@pytest.mark.needs("pgbouncer")
@pytest.mark.parametrize(
    ("mode", "ignored", "level"),
    [
        ("session", "lock_timeout,idle_in_transaction_session_timeout,jit", Level.OK),
        ("transaction", "lock_timeout,idle_in_transaction_session_timeout,jit", Level.BROKEN),
        ("transaction", "", Level.BROKEN),
    ],
    ids=["session", "transaction", "as it comes"],
)
async def test_a_pooler_is_told_by_what_it_does(
    server: EmbeddedPostgres, mode: str, ignored: str, level: Level
) -> None:
    await migrated(server)
    with pgbouncer(server, mode, ignored) as url:
        finding = (await look(url))["pooler"]
    assert finding.level is level
    if level is Level.BROKEN:
        assert "pool_mode = session" in finding.means
        assert "SHOW DATABASES" in finding.next_step


@contextmanager
def pgbouncer(server: EmbeddedPostgres, mode: str, ignored: str) -> Iterator[str]:
    """Run a PgBouncer in front of the server; yields the URL of a process over it."""
    folder = server._started.home / "pgbouncer"
    folder.mkdir(mode=0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = server.password_of(PROCESS)
    (folder / "users.txt").write_text(f'"{PROCESS}" "{password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={urlsplit(server.url).port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\nignore_startup_parameters = {ignored}\n"
    )
    as_somebody = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [get_program("pgbouncer"), "-q", *as_somebody, folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL
    )
    try:
        assert eventually(lambda: answers(port))
        yield f"postgresql://{PROCESS}:{password}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
