import asyncio

import pytest

from email_gateway.store.database import Database
from email_gateway.store.sessions import add_session, end_session, find_session, make_login_link, redeem_login_link

pytestmark = pytest.mark.anyio

KEY = "an-admin-key-of-forty-characters-0123456"


async def test_of_two_that_redeem_a_link_at_once_one_wins(db: Database) -> None:
    token = await make_login_link(db, "Ana")
    redeemed = await asyncio.gather(*(redeem_login_link(db, token) for _ in range(8)))
    assert sorted(operator or "" for operator in redeemed) == [""] * 7 + ["Ana"]


async def test_a_link_has_256_random_bits_and_is_kept_as_a_hash(db: Database) -> None:
    first, second = await make_login_link(db, "Ana"), await make_login_link(db, "Ana")
    assert first != second
    assert len(first) == 43
    rows = await db.fetch("SELECT token_hash FROM login_link")
    assert all(len(row["token_hash"]) == 32 and first.encode() not in row["token_hash"] for row in rows)


async def test_a_session_is_found_by_its_token_while_its_key_is_in_force(db: Database) -> None:
    session = await add_session(db, "Ana", KEY)
    found = await find_session(db, session.token, KEY)
    assert found == session
    assert await find_session(db, session.token, KEY + "x") is None
    assert await find_session(db, session.token + "x", KEY) is None


async def test_a_session_that_was_ended_or_has_expired_is_not_found(db: Database) -> None:
    ended, expired = await add_session(db, "Ana", KEY), await add_session(db, "Rui", KEY)
    await end_session(db, ended.token)
    await db.execute("UPDATE dashboard_session SET expires_at = now() WHERE operator = 'Rui'")
    assert await find_session(db, ended.token, KEY) is None
    assert await find_session(db, expired.token, KEY) is None


async def test_opening_a_session_prunes_the_expired_ones(db: Database) -> None:
    await add_session(db, "Ana", KEY)
    await make_login_link(db, "Ana")
    await db.execute("UPDATE dashboard_session SET expires_at = now()")
    await db.execute("UPDATE login_link SET expires_at = now() - interval '2 days'")
    await add_session(db, "Rui", KEY)
    assert [row["operator"] for row in await db.fetch("SELECT operator FROM dashboard_session")] == ["Rui"]
    assert await db.fetch("SELECT FROM login_link") == []


async def test_two_sessions_under_one_key_store_nothing_alike(db: Database) -> None:
    await add_session(db, "Ana", KEY)
    await add_session(db, "Ana", KEY)
    rows = await db.fetch("SELECT session_hash, csrf_hash, admin_key_hash FROM dashboard_session")
    for column in ("session_hash", "csrf_hash", "admin_key_hash"):
        assert rows[0][column] != rows[1][column]


async def test_a_session_keeps_its_tokens_out_of_its_repr(db: Database) -> None:
    session = await add_session(db, "Ana", KEY)
    assert session.token not in repr(session)
    assert session.csrf not in repr(session)
