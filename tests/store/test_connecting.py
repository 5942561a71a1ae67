"""Renewals of the database's URL: one for all who are refused, not too often, and only for what is current."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from email_gateway.errors import ConfigurationError, CredentialsRefused, DatabaseRefused
from email_gateway.store.connecting import Connection, Connector, close_connection, prove
from tests.store.network import Network
from tests.store.roles import Renewals, Role

pytestmark = pytest.mark.anyio

CALLERS = 8


async def test_callers_who_are_refused_at_the_same_moment_share_one_renewal(role: Role) -> None:
    stale, fresh = role.url, await role.change_password()
    renew, all_are_refused = Renewals(stale, fresh), asyncio.Event()
    refused = 0

    async def renew_for_all() -> AsyncIterator[str]:
        await all_are_refused.wait()
        async for url in renew():
            yield url

    async def attempt() -> Connection:
        nonlocal refused
        try:
            return await connector.open()
        except DatabaseRefused:
            refused += 1
            if refused == CALLERS:
                all_are_refused.set()
            raise

    connector = Connector(stale, renew_for_all)
    connections = await asyncio.gather(*(connector.renewing(attempt) for _ in range(CALLERS)))
    assert (len(connections), refused, renew.count) == (CALLERS, CALLERS, 1)
    for connection in connections:
        await close_connection(connection)


async def test_a_renewal_in_vain_is_repeated_only_after_a_pause(role: Role) -> None:
    now, renew = 100.0, Renewals()
    connector = Connector(role.url_with("stale-password"), renew, monotonic=lambda: now)
    for moment, count in ((100.0, 1), (104.9, 1), (105.1, 2), (110.0, 2)):
        now = moment
        with pytest.raises(CredentialsRefused):
            await connector.renewing(connector.open)
        assert renew.count == count


async def test_a_pause_ends_when_the_url_changes(role: Role, other_role: Role) -> None:
    renew = Renewals()
    connector = Connector(role.url_with("stale-password"), renew, monotonic=lambda: 100.0)
    with pytest.raises(CredentialsRefused):
        await connector.renewing(connector.open)
    await connector.use(other_role.url)
    renew.urls = [role.url]
    await other_role.change_password()
    await close_connection(await connector.renewing(connector.open))
    assert renew.count == 2


async def test_an_attempt_is_repeated_once(role: Role) -> None:
    renew = Renewals()
    connector = Connector(role.url_with("stale-password"), renew)
    renew.urls = [role.url]
    attempts = 0

    async def attempt() -> Connection:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            await role.change_password()  # between the renewal and what follows it
        return await connector.open()

    with pytest.raises(CredentialsRefused):
        await connector.renewing(attempt)
    assert (attempts, renew.count) == (2, 1)


async def test_another_refusal_after_a_renewal_is_told_as_it_is(role: Role) -> None:
    connector = Connector(role.url_with("stale-password"), Renewals(role.url + "_none", role.url))
    attempts = 0

    async def attempt() -> Connection:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            raise DatabaseRefused("3D000")
        return await connector.open()

    with pytest.raises(DatabaseRefused, match="3D000"):
        await connector.renewing(attempt)


async def test_a_refusal_of_the_old_url_does_not_count_against_the_new_one(network: Network, role: Role) -> None:
    renew = Renewals()
    connector = Connector(network.over(role.url_with("stale-password")), renew)
    network.hold()
    opening = asyncio.create_task(connector.renewing(connector.open))
    await network.until_reached()
    await connector.use(role.url)
    network.release()
    connection = await opening
    assert (connection.generation, connector.generation, renew.count) == (1, 1, 0)
    await close_connection(connection)


async def test_urls_that_are_given_at_once_are_used_in_their_order(role: Role, other_role: Role) -> None:
    connector = Connector(role.url_with("stale-password"))
    changes: list[int] = []
    connector.watchers.add(lambda: changes.append(connector.generation))
    await asyncio.gather(connector.use(role.url), connector.use(other_role.url), connector.use(other_role.url))
    connection = await connector.open()
    assert await connection.fetchval("SELECT current_user") == other_role.name
    assert changes == [1, 2]
    await close_connection(connection)


def test_a_port_beyond_the_last_is_no_url_on_a_loop_that_says_so() -> None:
    with pytest.raises(ConfigurationError):  # uvloop takes such a port modulo 65536
        asyncio.run(prove("postgresql://u:p@127.0.0.1:99999/db"))


async def test_what_holds_a_url_does_not_show_it(role: Role) -> None:
    connector = Connector(role.url, Renewals(role.url))
    connection = await connector.open()
    shown = repr(connector) + repr(connection) + str(CredentialsRefused("28P01"))
    assert role.name not in shown
    assert "127.0.0.1" not in shown
    await close_connection(connection)
