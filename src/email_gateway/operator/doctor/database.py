"""PostgreSQL: whether it is there and keeps what it acknowledges, who we are to it, and what room is left."""

import asyncio
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from email_gateway.errors import (
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    SchemaMismatch,
    WrongRootKey,
)
from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.secret_values import Values
from email_gateway.operator.doctor.subject import Subject
from email_gateway.secrets import SecretName
from email_gateway.store.database import Database
from email_gateway.store.keys import holds_sealed_values, list_roots
from email_gateway.store.migrations import require_current
from email_gateway.store.server import Server, look_at_server
from email_gateway.vault.boot import prove_root
from email_gateway.vault.roots import derive_root

OLDEST_VERSION = 150_000  # PostgreSQL 15
FULL, NEARLY_FULL = 1.0, 0.8
GIB = 2**30
LITTLE_SPACE, NO_SPACE = 5 * GIB, GIB // 4
TOO_MANY_CONNECTIONS = "53300"
UNKNOWN_PARAMETER = "08P01"  # what PgBouncer says of a start-up parameter that it does not know
# What a server connection that several sessions share does to prepared statements.
SHARED_STATEMENT = ("26000", "42P05")
POOLED = (
    "A pooler gives one backend to several sessions: what waits for NOTIFY hears nothing, and prepared statements get"
    " lost. Point DATABASE_URL at PostgreSQL itself, or set pool_mode = session for this database."
)


async def check_database(subject: Subject, url: str | None, values: Values) -> list[Finding]:
    """Look at the server and at what the gateway keeps in it."""
    if url is None:
        if not values.is_complete:
            return [skipped("postgresql", "its URL may be in a secret that cannot be read")]
        return [
            broken(
                "postgresql",
                "no database is configured and no `email-gateway up` runs here",
                "There is nothing to accept mail into.",
                "email-gateway up",
            )
        ]
    place = Place.of(url)
    try:
        with subject.steps.timed("database"):
            async with asyncio.timeout(subject.bound * 3 / 4):
                server = await look_at_server(url, subject.make_password(url))
    except ConfigurationError as error:
        return [broken("postgresql", _seen_in(error), str(error), place.step_for(error))]
    except DatabaseRefused as refused:
        return [_judge_refusal(refused, place, by_iam=subject.make_password(url) is not None)]
    except DatabaseUnavailable as away:
        return [_judge_absence(away, place)]
    except TimeoutError:
        return [_judge_absence(DatabaseUnavailable("PostgreSQL is silent (no answer)"), place)]
    contents = [skipped("migrations", "this login may not look")]
    if not server.closed:
        contents = await _check_contents(subject, url, values)
    return [
        _judge_version(server, place),
        ok("durability", "fsync and synchronous_commit are on; it is a primary"),
        _judge_pooler(server, place),
        _judge_login(server, subject, place),
        _judge_connections(server, place),
        _judge_space(server, subject.data if url == subject.home_url else None),
        *contents,
    ]


class Place:
    """Where the database is, without who logs in, for sentences and commands."""

    def __init__(self, host: str, port: int, name: str) -> None:
        self.host, self.port, self.name = host, port, name

    @classmethod
    def of(cls, url: str) -> "Place":
        parts = urlsplit(url)
        first = urlsplit("//" + parts.netloc.rpartition("@")[2].partition(",")[0])  # libpq takes several
        host = first.hostname or parse_qs(parts.query).get("host", ["localhost"])[-1]
        return cls(host, first.port or 5432, parts.path.lstrip("/") or "postgres")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def sql(self, statement: str) -> str:
        """Return the command that runs this as whoever the operator is."""
        return f'psql -h {self.host} -p {self.port} -d {self.name} -c "{statement}"'

    def step_for(self, error: ConfigurationError) -> str:
        if "fsync" in str(error):
            return f'{self.sql("ALTER SYSTEM SET fsync = on")} -c "SELECT pg_reload_conf()"'
        if "synchronous_commit" in str(error):
            return self.sql("SELECT setrole::regrole, setconfig FROM pg_db_role_setting")
        return f"pg_isready -h {self.host} -p {self.port}"


def _seen_in(error: ConfigurationError) -> str:
    if "fsync" in str(error):
        return "fsync is off"
    if "synchronous_commit" in str(error):
        return "synchronous_commit is off for this login or database"
    return "DATABASE_URL cannot be used"


def _judge_refusal(refused: DatabaseRefused, place: Place, *, by_iam: bool) -> Finding:
    if refused.sqlstate in SHARED_STATEMENT:
        return _shared(place)
    if by_iam:
        return broken(
            "postgresql",
            f"{place} refuses the token (SQLSTATE {refused.sqlstate})",
            "This role misses rds-db:connect for the login, the login misses rds_iam, or our clock is off.",
            place.sql("GRANT rds_iam TO email_gateway_process"),
        )
    return broken(
        "postgresql",
        f"{place} refuses the login (SQLSTATE {refused.sqlstate})",
        "The user, the password or the database's name in DATABASE_URL, or in the secret database-url, is wrong.",
        place.sql("SELECT rolname, rolcanlogin, rolvaliduntil FROM pg_roles"),
    )


def _judge_absence(away: DatabaseUnavailable, place: Place) -> Finding:
    if away.sqlstate == UNKNOWN_PARAMETER:
        return broken(
            "pooler",
            f"{place} refuses the parameters of our sessions (SQLSTATE {away.sqlstate}), as PgBouncer does",
            POOLED,
            f"psql -h {place.host} -p {place.port} -d pgbouncer -c 'SHOW DATABASES'",
        )
    if away.sqlstate == TOO_MANY_CONNECTIONS:
        return broken(
            "connections",
            f"{place} has no connection left for us (SQLSTATE {away.sqlstate})",
            "Processes cannot reach the database. See who holds them; raise max_connections, or run fewer processes.",
            place.sql("SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3"),
        )
    if "standby" in str(away):
        return broken(
            "postgresql",
            f"{place} is a standby: it takes no writes",
            "After a failover the old address may lead to a replica: point DATABASE_URL at the primary.",
            place.sql("SELECT sender_host, sender_port FROM pg_stat_wal_receiver"),
        )
    return broken(
        "postgresql",
        f"{place} does not answer ({away.sqlstate or str(away).rpartition('(')[2].rstrip(')')})",
        "Mail is answered 503 until it does: the server is down or starting, or a firewall is in between.",
        f"pg_isready -h {place.host} -p {place.port}",
    )


def _judge_version(server: Server, place: Place) -> Finding:
    seen = f"PostgreSQL {server.version}{', encrypted' if server.is_encrypted else ''}"
    if server.version_number < OLDEST_VERSION:
        return broken("postgresql", seen, "15 is the oldest that works: upgrade it.", place.sql("SHOW server_version"))
    if server.full_page_writes != "on":
        means = "A power cut can tear a page, and nothing mends it: set full_page_writes = on."
        return warning("postgresql", f"{seen}; full_page_writes is off", means, place.sql("SHOW full_page_writes"))
    return ok("postgresql", seen + ("; waits for a standby" if server.has_synchronous_standby else ""))


def _judge_pooler(server: Server, place: Place) -> Finding:
    if server.shares_backends:
        return _shared(place)
    if server.is_pooled:
        return ok("pooler", "one is in front, and gives each session a backend of its own")
    return ok("pooler", "none in front")


def _shared(place: Place) -> Finding:
    return broken(
        "pooler",
        f"{place} gives one backend to several sessions, as PgBouncer does in transaction mode",
        POOLED,
        f"psql -h {place.host} -p {place.port} -d pgbouncer -c 'SHOW DATABASES'",
    )


def _judge_login(server: Server, subject: Subject, place: Place) -> Finding:
    see = place.sql("SELECT rolname, rolsuper FROM pg_roles")
    if server.is_superuser:
        means = (
            "Whoever takes over a process owns the server and its machine. Log in as a member of"
            " email_gateway_service: docs/settings.md, under PostgreSQL, has the SQL."
        )
        judge = broken if subject.is_production else warning
        return judge("login", "processes log in as a superuser", means, see)
    if server.closed:
        means = "This login misses the rights of a process: GRANT email_gateway_service to it."
        return broken("login", f"may not read {', '.join(server.closed[:3])}", means, see)
    if not server.acts_for_tenants:
        means = "The api cannot start: what a tenant asks for runs as that role, under row-level security."
        step = place.sql("GRANT email_gateway_tenant TO email_gateway_process")
        return broken("login", "may not act as email_gateway_tenant", means, step)
    if server.is_owner:
        means = "A process that is taken over can change the schema: log in as a member of email_gateway_service."
        return warning("login", "processes log in as the owner of the tables", means, see)
    return ok("login", "no superuser, not the owner; member of the service role and of the tenants'")


def _judge_connections(server: Server, place: Place) -> Finding:
    limit = min(server.connection_limit, server.login_limit or server.connection_limit)
    used = server.connections / limit
    seen = f"{server.connections} of {limit} in use"
    if used < NEARLY_FULL:
        return ok("connections", seen)
    return warning(
        "connections",
        seen,
        "Each process takes up to 11. When none is left, new ones cannot start and mail is answered 503.",
        place.sql("SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2"),
    )


def _judge_space(server: Server, data: Path | None) -> Finding:
    size = f"the database holds {server.database_size / 2**20:.0f} MiB"
    if data is None:
        return ok("space", f"{size}; what is free cannot be seen through SQL")
    free = free_bytes(data)
    seen = f"{size}; {free / GIB:.1f} GiB are free"
    if free >= LITTLE_SPACE:
        return ok("space", seen)
    judge = broken if free < NO_SPACE else warning
    return judge("space", seen, "On a full disk no mail is accepted.", f"df -h {data}")


def free_bytes(path: Path) -> int:
    """Return what is free on the disk that holds this path."""
    return shutil.disk_usage(path).free


async def _check_contents(subject: Subject, url: str, values: Values) -> list[Finding]:
    db = await Database.connect(url, pool_size=1, make_password=subject.make_password(url))
    try:
        with subject.steps.timed("schema"):
            try:
                await require_current(db)
            except SchemaMismatch as mismatch:
                step = "email-gateway migrate --url-file owner.url" if subject.home_url is None else "email-gateway up"
                return [broken("migrations", str(mismatch).partition(":")[0], "Processes do not start on it.", step)]
        with subject.steps.timed("root key"):
            return [ok("migrations", "current"), await _check_root(db, values)]
    finally:
        await db.close()


async def _check_root(db: Database, values: Values) -> Finding:
    """Compare the root key that the secrets make with the one that the database was sealed under."""
    key, salt = (values.held.get(name) for name in (SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT))
    if key is None or salt is None:
        return skipped("root key", "its secrets cannot be read")
    root, roots = derive_root(key.value, salt.value), await list_roots(db)
    see = "email-gateway keys status"
    if not roots:
        if await holds_sealed_values(db):
            return broken(
                "root key",
                "crypto_root is empty beside sealed rows",
                "Half of a backup was restored: bring back crypto_root, crypto_key and crypto_key_wrap from the same one.",
                see,
            )
        return ok("root key", "none yet: the first process begins with this one")
    stored = next((stored for stored in roots if stored.root_id == root.root_id), None)
    if stored is None:
        active = next((one.root_id.hex() for one in roots if one.state == "active"), "none")
        return broken(
            "root key",
            f"the secrets make {root.root_id.hex()}, which this database does not know; active is {active}",
            "After a rotation the processes adopt it by themselves within the cache's life. If none runs, or it was"
            " put by mistake, nothing starts: docs/rotation.md, under Recovery.",
            see,
        )
    try:
        await prove_root(db, root, stored)
    except WrongRootKey as wrong:
        return broken("root key", f"{root.root_id.hex()} does not open what it should", str(wrong), see)
    return ok("root key", f"{root.root_id.hex()} is {stored.state} and opens the data keys")
