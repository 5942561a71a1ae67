"""The database's URL changes while the pool is in use: nothing fails, and what cannot work is not taken."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from email_gateway.errors import (
    ConfigurationError,
    CredentialsRefused,
    DatabaseRefused,
    DatabaseUnavailable,
    SecretUnavailable,
)
from email_gateway.store.database import Database
from tests.store.network import Network
from tests.store.roles import Renewals, Role

pytestmark = pytest.mark.anyio


async def test_passwords_that_change_under_load_fail_nothing(role: Role) -> None:
    renew = Renewals()
    database = await Database.connect(role.url, pool_size=30, renew=renew)
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work(database, is_over)) for _ in range(4)]
        for change, burst in enumerate((12, 24), start=1):
            old = role.url
            renew.urls = [old, await role.change_password()]
            await hold_together(database, burst)
            assert renew.count == change
        is_over.set()
    assert all(worker.result() for worker in workers)
    await database.close()


async def test_a_transaction_begun_before_the_change_commits_after_it(role: Role, other_role: Role) -> None:
    database = await Database.connect(role.url)
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, 'acme')", uuid.uuid4())
        await database.use(other_role.url)
        assert await current_user(database) == other_role.name
        row = await transaction.fetch_one("SELECT current_user AS name")
        assert row is not None
        assert row["name"] == role.name
    await role.until_gone()
    assert len(await database.fetch("SELECT * FROM tenant")) == 1
    await database.close()


async def test_idle_connections_are_replaced_with_the_change(role: Role, other_role: Role) -> None:
    database = await Database.connect(role.url, pool_size=5)
    await hold_together(database, 5)
    assert len(await role.session_pids()) == 5
    await database.use(other_role.url)
    await role.until_gone()
    assert len(await other_role.session_pids()) == 5
    assert await hold_together(database, 5) == {other_role.name}
    await database.close()


async def test_the_same_url_again_changes_nothing(role: Role) -> None:
    database = await Database.connect(role.url)
    pids = await role.session_pids()
    await database.use(role.url)
    assert await current_user(database) == role.name
    assert await role.session_pids() == pids
    await database.close()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda url: url.replace("@", "x@"), ConfigurationError),  # the password
        (lambda url: url + "_none", ConfigurationError),
        (lambda url: "mysql://" + url.partition("://")[2], ConfigurationError),
        (lambda url: with_port(url, "notaport"), ConfigurationError),
        (lambda url: with_port(url, "1"), DatabaseUnavailable),
    ],
    ids=["password", "database", "scheme", "port", "nobody listens"],
)
async def test_a_url_that_does_not_work_is_not_taken(
    role: Role, other_role: Role, spoil: Callable[[str], str], expected: type[Exception]
) -> None:
    database = await Database.connect(role.url)
    pids = await role.session_pids()
    with pytest.raises(expected) as caught:
        await database.use(spoil(other_role.url))
    assert other_role.name not in str(caught.value)
    assert await current_user(database) == role.name
    assert await role.session_pids() == pids
    await database.close()


async def test_a_server_that_loses_commits_is_not_taken(db: Database, role: Role, other_role: Role) -> None:
    await db.execute(f"ALTER ROLE {other_role.name} SET synchronous_commit = off")
    database = await Database.connect(role.url)
    with pytest.raises(ConfigurationError, match="synchronous_commit"):
        await database.use(other_role.url)
    assert await current_user(database) == role.name
    await other_role.until_gone()
    await database.close()


async def test_connections_that_cannot_be_replaced_at_once_are_replaced_later(
    db: Database, role: Role, other_role: Role
) -> None:
    database = await Database.connect(role.url, pool_size=3)
    await hold_together(database, 3)
    await db.execute(f"ALTER ROLE {other_role.name} CONNECTION LIMIT 1")
    await database.use(other_role.url)
    await db.execute(f"ALTER ROLE {other_role.name} CONNECTION LIMIT -1")
    assert await hold_together(database, 3) == {other_role.name}
    await role.until_gone()
    await database.close()


async def test_a_pool_closes_while_its_connections_are_replaced(network: Network, role: Role) -> None:
    database = await Database.connect(network.over(role.url))
    network.hold()
    database._begin_replacing()
    await network.until_reached()
    closing = asyncio.create_task(database.close())
    network.release()
    await closing
    await role.until_gone()
    with pytest.raises(DatabaseUnavailable):
        await database.fetch("SELECT 1")


async def test_the_first_connection_is_renewed_as_well(role: Role) -> None:
    stale, renew = role.url, Renewals()
    renew.urls = [stale, await role.change_password()]
    database = await Database.connect(stale, renew=renew)
    assert await current_user(database) == role.name
    assert renew.count == 1
    await database.close()


async def test_a_start_without_credentials_that_work_is_a_configuration_error(role: Role) -> None:
    stale = role.url_with("stale-password")
    with pytest.raises(ConfigurationError, match="28P01") as caught:
        await Database.connect(stale, renew=Renewals(stale))
    assert "stale-password" not in str(caught.value)
    assert role.name not in str(caught.value)


async def test_credentials_that_nothing_renews_are_unavailable_and_said_once(
    role: Role, capsys: pytest.CaptureFixture[str]
) -> None:
    renew = Renewals(role.url)
    database = await Database.connect(role.url, renew=renew)
    await role.change_password()
    await role.end_sessions()
    for _ in range(3):  # within the pause after a renewal in vain, the answer comes at once
        with pytest.raises(CredentialsRefused, match="28P01") as caught:
            await database.fetch("SELECT 1")
        assert role.name not in str(caught.value)
    assert renew.count == 1
    printed = "".join(capsys.readouterr())
    assert printed.count("database_credentials_refused") == 1
    assert role.name not in printed
    await database.close()


async def test_without_renewal_a_refusal_stays_a_refusal(role: Role) -> None:
    first = role.url
    database = await Database.connect(first)
    await role.change_password()
    await role.end_sessions()
    with pytest.raises(DatabaseRefused, match="28P01"):
        await database.fetch("SELECT 1")
    await role.apply(first)
    assert await current_user(database) == role.name
    await database.close()


async def test_a_user_who_may_not_log_in_any_more_is_renewed_too(db: Database, role: Role, other_role: Role) -> None:
    database = await Database.connect(role.url, renew=Renewals(role.url, other_role.url))
    await db.execute(f"ALTER ROLE {role.name} NOLOGIN")
    await role.end_sessions()
    assert await current_user(database) == other_role.name
    await database.close()


async def test_candidates_that_do_not_work_are_passed_over(role: Role, other_role: Role) -> None:
    wrong = (with_port(other_role.url, "1"), other_role.url.replace("@", "x@"), "not a URL")
    renew = Renewals(role.url, *wrong, other_role.url)
    database = await Database.connect(role.url, renew=renew)
    await role.change_password()
    await role.end_sessions()
    assert await current_user(database) == other_role.name
    await database.close()


@pytest.mark.parametrize("error", [SecretUnavailable("away"), RuntimeError("a bug")])
async def test_a_secret_that_cannot_be_read_is_unavailable(
    role: Role, error: Exception | None, capsys: pytest.CaptureFixture[str]
) -> None:
    async def renew() -> AsyncIterator[str]:
        if error:
            raise error
        yield role.url

    database = await Database.connect(role.url, renew=renew)
    await role.change_password()
    await role.end_sessions()
    with pytest.raises(CredentialsRefused):
        await database.fetch("SELECT 1")
    printed = "".join(capsys.readouterr())
    assert type(error).__name__ in printed
    assert "database_credentials_refused" in printed
    await database.close()


async def test_a_secret_that_hangs_is_unavailable(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("email_gateway.store.connecting.RENEWAL_TIMEOUT_SECONDS", 0.01)
    waiting = Waiting()
    database = await Database.connect(role.url, renew=waiting)
    await role.change_password()
    await role.end_sessions()
    with pytest.raises(CredentialsRefused):
        await database.fetch("SELECT 1")
    assert waiting.is_closed
    await database.close()


async def test_a_renewal_may_change_the_url_itself(role: Role) -> None:
    """As when the secret that it refreshes tells its subscribers, of whom the database is one."""
    stale, fresh = role.url, await role.change_password()

    async def renew() -> AsyncIterator[str]:
        await database.use(fresh)
        yield stale

    await role.apply(stale)
    database = await Database.connect(stale, renew=renew)
    await role.apply(fresh)
    await role.end_sessions()
    assert await current_user(database) == role.name
    await database.close()


async def test_a_renewal_that_asks_the_database_does_not_wait_for_itself(role: Role) -> None:
    renew = Renewals()

    async def renew_with_a_question() -> AsyncIterator[str]:
        with pytest.raises(CredentialsRefused):
            await database.fetch("SELECT 1")
        async for url in renew():
            yield url

    database = await Database.connect(role.url, renew=renew_with_a_question)
    renew.urls = [await role.change_password()]
    await role.end_sessions()
    assert await current_user(database) == role.name
    assert renew.count == 1
    await database.close()


async def test_whoever_waits_for_a_renewal_is_told_when_the_pool_closes(role: Role) -> None:
    waiting = Waiting()
    database = await Database.connect(role.url, renew=waiting)
    await role.change_password()
    await role.end_sessions()
    asking = asyncio.create_task(current_user(database))
    await waiting.is_asked.wait()
    await database.close()
    with pytest.raises(CredentialsRefused):
        await asking
    assert waiting.is_closed


async def test_whoever_gives_up_leaves_the_renewal_to_the_others(role: Role) -> None:
    waiting = Waiting()
    database = await Database.connect(role.url, renew=waiting)
    waiting.url = await role.change_password()
    await role.end_sessions()
    impatient = asyncio.create_task(current_user(database))
    patient = asyncio.create_task(current_user(database))
    await waiting.is_asked.wait()
    impatient.cancel()
    await asyncio.wait([impatient])
    waiting.may_answer.set()
    assert await patient == role.name
    assert impatient.cancelled()
    await database.close()


class Waiting:
    """A secret that answers, with `url`, once it may."""

    def __init__(self) -> None:
        self.url = ""
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.is_closed = False

    async def __call__(self) -> AsyncIterator[str]:
        self.is_asked.set()
        try:
            await self.may_answer.wait()
            yield self.url
        finally:
            self.is_closed = True


async def work(database: Database, is_over: asyncio.Event) -> int:
    """Write and read until it is over; return how often. Any failure is raised."""
    done = 0
    while not is_over.is_set():
        async with database.transaction() as transaction:
            tenant = uuid.uuid4()
            await transaction.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1, $2)", tenant, str(tenant))
        await database.fetch("SELECT * FROM tenant LIMIT 1")
        done += 1
    return done


async def hold_together(database: Database, count: int) -> set[str]:
    """Hold so many transactions at once that the pool has to open connections; return their users."""
    barrier = asyncio.Barrier(count)

    async def hold() -> str:
        async with database.transaction() as transaction:
            row = await transaction.fetch_one("SELECT current_user AS name")
            assert row is not None
            await barrier.wait()
            return str(row["name"])

    async with asyncio.TaskGroup() as group:
        holders = [group.create_task(hold()) for _ in range(count)]
    return {holder.result() for holder in holders}


async def current_user(database: Database) -> str:
    row = await database.fetch_one("SELECT current_user AS name")
    assert row is not None
    return str(row["name"])


def with_port(url: str, port: str) -> str:
    head, _, tail = url.rpartition(":")
    return f"{head}:{port}/{tail.partition('/')[2]}"
