"""Listening: what is notified is heard, and whoever listens learns when something may have been missed."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from email_gateway.embedded import EmbeddedPostgres
from email_gateway.store.connecting import Connector
from email_gateway.store.database import Database
from email_gateway.store.listening import Ear, listen
from tests.plugins.marks import Watch
from tests.store.network import Network
from tests.store.roles import Renewals, Role

pytestmark = pytest.mark.anyio

SOON = timedelta(milliseconds=20)


@pytest.fixture
def server(watch: Watch) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this test's own, which it may stop."""
    # The server's own user must be able to enter the directory: pytest's tmp_path is 0700.
    with tempfile.TemporaryDirectory(prefix="email-gateway-listening-") as home:
        Path(home).chmod(0o755)
        server = EmbeddedPostgres(Path(home))
        watch.add("the database password", urlsplit(server.start()).password or "")
        yield server
        server.stop()


async def test_the_listener_hears_each_channel_it_asked_for(db: Database) -> None:
    async with aclosing(db.listen("keys", 'Secrets "quoted"')) as heard:
        assert await anext(heard) is None
        for channel in ("keys", 'Secrets "quoted"', "keys"):
            await notify(db, "another")
            await notify(db, channel)
            assert await anext(heard) == channel


async def test_a_notification_of_a_transaction_is_heard_when_it_commits(db: Database) -> None:
    async with aclosing(db.listen("keys", "secrets")) as heard:
        assert await anext(heard) is None
        async with db.transaction() as transaction:
            await transaction.execute("SELECT pg_notify($1, '')", "keys")
            await notify(db, "secrets")
            assert await anext(heard) == "secrets"
        assert await anext(heard) == "keys"


async def test_waiting_notifications_of_one_channel_become_one() -> None:
    ear = Ear()
    for channel in ("keys", "secrets", "keys"):
        ear.hear(None, 1, channel, "")
    assert [ear.take() for _ in range(3)] == ["keys", "secrets", None]


async def test_a_listener_that_lost_its_connection_comes_back(
    db: Database, role: Role, capsys: pytest.CaptureFixture[str]
) -> None:
    database = await Database.connect(role.url)
    async with aclosing(database.listen("keys")) as heard:
        for _ in range(2):
            assert await anext(heard) is None
            await role.end_sessions()
        assert await anext(heard) is None
        await notify(db, "keys")
        assert await anext(heard) == "keys"
    printed = "".join(capsys.readouterr())
    assert printed.count("listener_lost") == 2
    assert role.name not in printed
    await database.close()


async def test_a_listener_comes_back_with_a_new_password(db: Database, role: Role) -> None:
    renew = Renewals()
    database = await Database.connect(role.url, renew=renew)
    async with aclosing(database.listen("keys")) as heard:
        assert await anext(heard) is None
        renew.urls = [role.url, await role.change_password()]
        await role.end_sessions()
        assert await anext(heard) is None
        await notify(db, "keys")
        assert await anext(heard) == "keys"
    assert renew.count == 1
    await database.close()


async def test_a_listener_moves_with_the_url(
    db: Database, role: Role, other_role: Role, capsys: pytest.CaptureFixture[str]
) -> None:
    database = await Database.connect(role.url)
    async with aclosing(listen(database._connector, ["keys"], check_every=timedelta(hours=1))) as heard:
        assert await anext(heard) is None
        hearing = asyncio.ensure_future(anext(heard))
        await notify(db, "another")  # meanwhile the listener has come to rest
        await database.use(other_role.url)
        assert await hearing is None
        await role.until_gone()
        await notify(db, "keys")
        assert await anext(heard) == "keys"
    assert "listener_lost" not in "".join(capsys.readouterr())
    await database.close()


async def test_a_listener_outlives_a_restart_and_says_once_that_it_was_lost(
    server: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    database = await Database.connect(server.url)
    async with aclosing(database.listen("keys")) as heard:
        assert await anext(heard) is None
        server.stop()
        hearing = asyncio.ensure_future(anext(heard))
        with pytest.raises(TimeoutError):  # long enough for a second try in vain
            await asyncio.wait_for(asyncio.shield(hearing), 0.5)
        server.start()
        assert await hearing is None
        await notify(database, "keys")
        assert await anext(heard) == "keys"
    assert "".join(capsys.readouterr()).count("listener_lost") == 1
    await database.close()


async def test_a_connection_that_died_unseen_is_noticed(network: Network, db: Database, role: Role) -> None:
    connector = Connector(network.over(role.url))
    answer_within = timedelta(seconds=0.5)  # a busy machine answers within it
    async with aclosing(listen(connector, ["keys"], check_every=SOON, answer_within=answer_within)) as heard:
        assert await anext(heard) is None
        network.hold()
        hearing = asyncio.ensure_future(anext(heard))
        await network.until_called()
        network.release()
        assert await hearing is None
        await notify(db, "keys")
        assert await anext(heard) == "keys"


async def test_a_quiet_connection_is_asked_and_kept(db: Database, role: Role) -> None:
    async with aclosing(listen(Connector(role.url), ["keys"], check_every=SOON)) as heard:
        assert await anext(heard) is None
        pids = await role.session_pids()
        hearing = asyncio.ensure_future(anext(heard))
        asked = "SELECT 1 FROM pg_stat_activity WHERE usename = $1 AND query = 'SELECT 1'"
        while not await db.fetch(asked, role.name):
            await db.execute("SELECT pg_sleep(0.01)")
        await notify(db, "keys")
        assert await hearing == "keys"
        assert await role.session_pids() == pids


async def test_a_listener_that_is_closed_closes_its_connection(role: Role) -> None:
    connector = Connector(role.url)
    heard = listen(connector, ["keys"])
    assert await anext(heard) is None
    assert len(await role.session_pids()) == 1
    await heard.aclose()
    await role.until_gone()
    assert not connector.watchers


async def test_a_listener_whose_consumer_is_cancelled_closes_its_connection(role: Role) -> None:
    connector, is_listening = Connector(role.url), asyncio.Event()

    async def consume() -> None:
        async with aclosing(listen(connector, ["keys"])) as heard:
            async for _ in heard:
                is_listening.set()

    consumer = asyncio.create_task(consume())
    await is_listening.wait()
    consumer.cancel()
    await asyncio.wait([consumer])
    assert consumer.cancelled()
    await role.until_gone()


async def test_a_listener_that_finds_no_database_can_be_closed() -> None:
    heard = listen(Connector("postgresql://u:p@127.0.0.1:1/db"), ["keys"])
    hearing = asyncio.ensure_future(anext(heard))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hearing, 0.1)
    await heard.aclose()


async def notify(db: Database, channel: str) -> None:
    await db.execute("SELECT pg_notify($1, '')", channel)
