"""A new root key for 20,000 data keys while mail is sent: how long the fleet takes, beside the bare work.

`python -m bench --only adoption`. The peers do less in the same run: unwrapping and wrapping as many
keys in one thread, and one INSERT of as many rows.
"""

import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.rotations.acts import KEY, SALT
from bench.rotations.operator import ADMIN_KEY, CURRENT, Operator
from bench.rotations.stand import PREFIX, Stand, calling, kept_on_failure, new_value, standing
from email_gateway.store.database import Queries
from email_gateway.vault.data_keys import fingerprint_of, make_material
from email_gateway.vault.roots import RootKey, derive_root
from email_gateway.vault.wraps import KeyName, Purpose, unwrap, wrap

TENANTS = 10_000
RATE = 100.0
WORKERS = 1
CALLERS = 40  # tenants that send; they come one after another, so that keys are made meanwhile
SETTLED_SECONDS = 10.0  # also what lies between two requests to refresh
HELD_WITHIN_SECONDS = 60.0

HELD = "update and refresh until every process holds the new root, s"
ADOPTED = "of it the adoption, in the process that did it, s"
CRYPTO = "bare: unwrap and wrap as many keys, one thread, s"
INSERT = "bare: one INSERT of as many rows, s"
BEFORE, DURING = "p99 of the requests before, ms", "p99 of the requests meanwhile, ms"

KEYS_SQL = """
WITH fresh AS (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::smallint[], $4::bytea[])
               AS fresh (tenant_id, key_id, purpose, blob)),
tenants AS (INSERT INTO tenant (tenant_id, name) SELECT DISTINCT tenant_id, 'many-' || tenant_id FROM fresh),
keys AS (INSERT INTO crypto_key (key_id, tenant_id, purpose) SELECT key_id, tenant_id, purpose FROM fresh)
INSERT INTO crypto_key_wrap (key_id, parent_id, blob) SELECT key_id, $5, blob FROM fresh"""
INSERT_SQL = "INSERT INTO bare_wrap SELECT key_id, $2, blob FROM unnest($1::bytea[], $3::bytea[]) AS f (key_id, blob)"
# A transaction's now() is when it began; the audit's row carries the time of its own statement.
ADOPTED_SQL = """
SELECT extract(epoch FROM audit.at - root.activated_at)::float8 FROM audit
JOIN crypto_root AS root ON encode(root_id, 'hex') = subject AND root.state = 'active'
WHERE action = 'root.adopted' ORDER BY audit.at DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key of some tenant, and its wrap."""

    name: KeyName
    blob: bytes


def make_keys(root: RootKey) -> list[DataKey]:
    """Make both keys of every tenant, wrapped under a root."""
    made = []
    for tenant_id in [uuid.uuid4() for _ in range(TENANTS)]:
        for purpose in Purpose:
            material = make_material()
            name = KeyName(fingerprint_of(material), tenant_id, purpose)
            made.append(DataKey(name, wrap(root, name, material)))
    return made


def bare_crypto(keys: list[DataKey], old: RootKey, new: RootKey) -> tuple[float, list[bytes]]:
    """Return the seconds for opening every wrap and making another, and the wraps."""
    started = time.perf_counter()
    blobs = [wrap(new, key.name, unwrap(old, key.name, key.blob)) for key in keys]
    return time.perf_counter() - started, blobs


def bare_insert(stand: Stand, keys: list[DataKey], parent_id: bytes, blobs: list[bytes]) -> float:
    """Return the seconds for writing the wraps into a table like the vault's, one durable statement."""

    async def insert(db: Queries) -> float:
        await db.execute("CREATE TABLE bare_wrap (LIKE crypto_key_wrap INCLUDING ALL)")
        started = time.perf_counter()
        await db.execute(INSERT_SQL, [key.name.key_id for key in keys], parent_id, blobs)
        seconds = time.perf_counter() - started
        await db.execute("DROP TABLE bare_wrap")
        return seconds

    seconds: float = stand.ask(insert)
    return seconds


def fill(stand: Stand, keys: list[DataKey], root: RootKey) -> None:
    """Put the keys into the database, as if their tenants had long been there."""
    names = [key.name for key in keys]
    columns: list[list[Any]] = [
        [name.tenant_id for name in names],
        [name.key_id for name in names],
        [int(name.purpose) for name in names],
        [key.blob for key in keys],
    ]

    async def insert(db: Queries) -> None:
        await db.execute(KEYS_SQL, *columns, root.root_id)
        await db.execute("ANALYZE")

    stand.ask(insert)


def measure(repeat: int, say: Callable[[str], None]) -> dict[str, float]:
    """Return the median of each figure over `repeat` new keys, one after another."""
    turns: list[dict[str, float]] = []
    with (
        kept_on_failure("email-gateway-adoption-logs-") as logs,
        standing(logs, workers=WORKERS, tenants=CALLERS) as stand,
    ):
        operator = Operator(stand)
        operator.look()
        operator.take_new_admin_key()
        operator.await_versions((KEY, SALT, ADMIN_KEY), HELD_WITHIN_SECONDS)
        say(f"making {2 * TENANTS:,} data keys")
        root = _root_of(stand)
        keys = make_keys(root)
        fill(stand, keys, root)
        with calling(stand, RATE, repeat * 2 * SETTLED_SECONDS) as callers:
            callers.load()
            for turn in range(1, repeat + 1):
                say(f"a new root for {len(keys):,} data keys ({turn} of {repeat})")
                turns.append(_adopt(operator))
            traffic = callers.stop()
        if traffic["failures"]:
            raise RuntimeError(f"requests failed: {traffic['failures']}")
        for figures in turns:
            _add_latencies(figures, traffic["samples"])
            say("the bare work")
            new = derive_root(new_value(), new_value())
            figures[CRYPTO], blobs = bare_crypto(keys, root, new)
            figures[INSERT] = bare_insert(stand, keys, new.root_id, blobs)
    return {name: statistics.median(figures[name] for figures in turns) for name in SHOWN}


SHOWN = (HELD, ADOPTED, CRYPTO, INSERT, BEFORE, DURING)


def _adopt(operator: Operator) -> dict[str, float]:
    time.sleep(SETTLED_SECONDS)
    began = time.monotonic()
    operator.put(KEY)
    operator.begin_refresh()
    operator.look()
    if not operator.await_root(HELD_WITHIN_SECONDS):
        raise RuntimeError(f"the new root was not held everywhere within {HELD_WITHIN_SECONDS:.0f} s")
    ended = time.monotonic()
    operator.join()
    adopted = operator.stand.sql(ADOPTED_SQL)[0][0]
    return {"began": began, "ended": ended, HELD: ended - began, ADOPTED: adopted}


def _add_latencies(figures: dict[str, float], samples: list[tuple[float, float]]) -> None:
    began, ended = figures["began"], figures["ended"]
    before = [seconds for due, seconds in samples if began - SETTLED_SECONDS / 2 <= due < began]
    during = [seconds for due, seconds in samples if began <= due <= ended]
    for name, chosen in ((BEFORE, before), (DURING, during)):
        figures[name] = statistics.quantiles(chosen, n=100)[98] * 1000


def _root_of(stand: Stand) -> RootKey:
    key, salt = (
        stand.client.get_secret_value(SecretId=f"{PREFIX}/{name}", VersionStage=CURRENT)["SecretString"]
        for name in (KEY, SALT)
    )
    return derive_root(key, salt)


def table_of(figures: dict[str, float]) -> Table:
    """Show the figures, those of time beside the bare work."""
    bare = figures[CRYPTO] + figures[INSERT]
    table = Table(title=f"A new root key for {2 * TENANTS:,} data keys, {RATE:.0f} requests/s meanwhile (medians)")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("to the bare work", justify="right")
    for name in SHOWN:
        ratio = f"{figures[name] / bare:.1f} x" if name in (HELD, ADOPTED) else ""
        table.add_row(name, f"{figures[name]:,.2f}" if name.endswith(" s") else f"{figures[name]:,.1f}", ratio)
    return table
