"""Row-level security: every table of tenants is guarded, and a tenant may do there what it must and no more."""

import os
import uuid

import pytest

from email_gateway.errors import DatabaseRefused
from email_gateway.store.accepting import Acceptor, NewAttachment
from email_gateway.store.accounts import create_api_key, create_tenant
from email_gateway.store.database import Database
from email_gateway.store.listing import EVERY, Blind, Chosen, statement
from email_gateway.store.queries import load
from tests.makers import SEALED, new_message, new_request

pytestmark = pytest.mark.anyio

SQL = load("accounts")
INSUFFICIENT_PRIVILEGE = "42501"
BY_COPY = "sealed_piece"  # COPY is refused under row-level security
WITHOUT_TENANT = {"generation"}  # what it holds is nobody's
OPEN_FUNCTIONS = ("whole_value", "lock_index_keys")  # run as their owner, and ask for the tenant themselves
# A row in each table that nothing else here fills; the braces are what the tenant's id, a row's and a sealed value are.
ROWS = (
    "domain (tenant_id, domain_id, name) VALUES ({tenant}, {row}, 'acme.example')",
    (
        "dkim_key (tenant_id, domain_id, dkim_key_id, selector, algorithm, public_key, sealed_private_key)"
        " VALUES ({tenant}, {row}, {row}, 's', 'rsa-sha256', '', {sealed})"
    ),
    "suppression (tenant_id, suppression_id, sealed_entry, reason) VALUES ({tenant}, {row}, {sealed}, 'manual')",
    (
        "suppression_index (tenant_id, index_key_id, value, suppression_id)"
        " VALUES ({tenant}, uuid_send({row}), uuid_send({row}), {row})"
    ),
    "daily_use (tenant_id, day, recipients) VALUES ({tenant}, now()::date, 1)",
    "template (tenant_id, template_id, name, current_version_id) VALUES ({tenant}, {row}, 'Order', {row})",
    "template_version (tenant_id, template_id, version_id, sealed_content) VALUES ({tenant}, {row}, {row}, {sealed})",
    (
        "webhook (tenant_id, webhook_id, host, sealed_endpoint, sealed_secret, events, kinds)"
        " VALUES ({tenant}, {row}, 'hooks.example.com', {sealed}, {sealed}, '{{email.sent}}', '{{accepted}}')"
    ),
    "webhook_standing (tenant_id, webhook_id) VALUES ({tenant}, {row})",
    "webhook_delivery (tenant_id, message_id, webhook_id, kind) VALUES ({tenant}, {row}, {row}, 'accepted')",
)


@pytest.fixture
async def other_id(db: Database) -> uuid.UUID:
    return (await create_tenant(db, "other", actor="test")).tenant_id


async def names(db: Database, sql: str) -> set[str]:
    return {row[0] for row in await db.fetch(sql)}


async def tables_of_tenants(db: Database) -> set[str]:
    return await names(
        db,
        "SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " WHERE attname = 'tenant_id' AND relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')",
    )


async def test_every_table_with_a_tenant_id_is_guarded(db: Database) -> None:
    tables = await tables_of_tenants(db)
    assert {"tenant", "message", "delivery", "event", "api_key", "audit", BY_COPY} <= tables
    guarded = await names(db, "SELECT relname FROM pg_class WHERE relrowsecurity")
    assert guarded == tables - {BY_COPY}, "a migration that makes a table of tenants calls guard_tenant_rows"
    for table in guarded:
        policies = await db.fetch(
            "SELECT policyname, permissive, roles::text[] AS roles, cmd, qual, with_check FROM pg_policies"
            " WHERE tablename = $1 ORDER BY 1",
            table,
        )
        assert [tuple(row) for row in policies] == [
            ("service", "PERMISSIVE", ["email_gateway_service"], "ALL", "true", None),
            ("tenant", "PERMISSIVE", ["email_gateway_tenant"], "ALL", "(tenant_id = current_tenant())", None),
        ]


async def test_a_tenant_may_nothing_where_nothing_guards_it(db: Database) -> None:
    open_to_tenants = await names(
        db,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
        " AND (has_any_column_privilege('email_gateway_tenant', oid, 'SELECT, INSERT, UPDATE')"
        "      OR has_table_privilege('email_gateway_tenant', oid, 'DELETE, TRUNCATE'))",
    )
    guarded = await names(db, "SELECT relname FROM pg_class WHERE relrowsecurity")
    assert open_to_tenants - guarded == WITHOUT_TENANT
    assert not await names(
        db,
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        f" AND proname NOT IN {OPEN_FUNCTIONS} AND has_function_privilege('email_gateway_tenant', oid, 'EXECUTE')",
    )


async def test_each_tenant_sees_its_own_rows_and_without_a_tenant_there_are_none(
    db: Database, tenant_id: uuid.UUID, other_id: uuid.UUID
) -> None:
    acceptor = Acceptor(db)
    for owner in (tenant_id, other_id):
        attachment = NewAttachment(uuid.uuid4(), SEALED, 10)
        message = new_message(
            tags=(("a", "b"),), attachments=(attachment,), blind=((bytes(16), "address", os.urandom(16)),)
        )
        await acceptor.accept(new_request(owner, message, key_hmac=os.urandom(16), fingerprint=os.urandom(32)))
        await create_api_key(db, owner, "key", actor="test")
        values = {
            "tenant": f"'{owner}'::uuid",
            "row": f"'{uuid.uuid4()}'::uuid",
            "sealed": f"'\\x{SEALED.hex()}'::bytea",
        }
        for row in ROWS:
            await db.execute(f"INSERT INTO {row.format(**values)}")
    tables = await names(
        db,
        "SELECT relname FROM pg_class WHERE relrowsecurity"
        " AND has_column_privilege('email_gateway_tenant', oid, 'tenant_id', 'SELECT')",
    )
    assert len(tables) >= 9
    for table in sorted(tables):
        for owner in (tenant_id, other_id):
            rows = await db.as_tenant(owner).fetch(f"SELECT DISTINCT tenant_id FROM {table}")
            assert [row["tenant_id"] for row in rows] == [owner], table
        async with db.transaction() as transaction:
            await transaction.execute("SET LOCAL ROLE email_gateway_tenant")
            assert await transaction.fetch(f"SELECT tenant_id FROM {table}") == []


async def test_a_tenant_writes_no_row_of_another(db: Database, tenant_id: uuid.UUID, other_id: uuid.UUID) -> None:
    made = await create_api_key(db, other_id, "key", actor="test")
    tenant = db.as_tenant(tenant_id)
    with pytest.raises(DatabaseRefused) as refused:
        await tenant.execute("INSERT INTO audit (actor, action, tenant_id) VALUES ('a', 'b', $1)", other_id)
    assert refused.value.sqlstate == INSUFFICIENT_PRIVILEGE
    await tenant.execute("UPDATE api_key SET revoked_at = now(), name = 'taken'")
    row = await db.fetch_one("SELECT name, revoked_at FROM api_key")
    assert row is not None
    assert tuple(row) == ("key", None)
    with pytest.raises(DatabaseRefused) as moved:
        await db.as_tenant(other_id).execute("UPDATE api_key SET tenant_id = $1", tenant_id)
    assert moved.value.sqlstate == INSUFFICIENT_PRIVILEGE
    assert await tenant.fetch_one(SQL.revoke_api_key, other_id, made.key.api_key_id) is None


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT key_hash FROM api_key",
        "SELECT * FROM sealed_piece",
        "SELECT * FROM crypto_key",
        "SELECT * FROM audit",
        "SELECT * FROM conservation",
        "SELECT * FROM running_conservation",
        "UPDATE tenant SET suspended_at = NULL",
        "UPDATE api_key SET scopes = '{full_access}'",
        "UPDATE api_key SET expires_at = NULL",
        "UPDATE generation SET name = 'x'",
        "DELETE FROM api_key",
        "DELETE FROM message",
        "UPDATE delivery SET attempts = 0",
        "UPDATE event SET kind = 'delivered'",
        "INSERT INTO tenant (tenant_id, name) VALUES (gen_random_uuid(), 'x')",
        "ALTER TABLE message DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_a_tenant_may_not(db: Database, tenant_id: uuid.UUID, statement: str) -> None:
    with pytest.raises(DatabaseRefused) as refused:
        await db.as_tenant(tenant_id).execute(statement)
    assert refused.value.sqlstate == INSUFFICIENT_PRIVILEGE


async def test_what_stands_in_pieces_is_whole_for_its_tenant_alone(
    db: Database, tenant_id: uuid.UUID, other_id: uuid.UUID
) -> None:
    large = SEALED[:1] + os.urandom(600_000)
    first, rest = large[:262_144], memoryview(large)[262_144:]
    message = new_message(sealed_content=first, rest=rest, sealed_summary=SEALED)
    await Acceptor(db).accept(new_request(other_id, message))
    ask = "SELECT whole_value($1, $2, $2, $3) AS value"
    for reader, seen in ((db, large), (db.as_tenant(other_id), large), (db.as_tenant(tenant_id), first)):
        row = await reader.fetch_one(ask, other_id, message.message_id, first)
        assert row is not None
        assert row["value"] == seen


async def test_the_role_and_the_tenant_end_with_the_transaction(db: Database, tenant_id: uuid.UUID) -> None:
    alone = await Database.connect(db._connector._url, pool_size=1)
    ask = "SELECT current_user::text AS role, current_tenant() AS tenant"
    for _ in range(2):
        row = await alone.as_tenant(tenant_id).fetch_one(ask)
        assert row is not None
        assert tuple(row) == ("email_gateway_tenant", tenant_id)
        row = await alone.fetch_one(ask)
        assert row is not None
        assert (row["role"] != "email_gateway_tenant", row["tenant"]) == (True, None)
        with pytest.raises(DatabaseRefused):
            await alone.as_tenant(tenant_id).execute("SELECT * FROM audit")
    await alone.close()


async def test_the_second_wall_uses_the_same_indexes(db: Database, tenant_id: uuid.UUID) -> None:
    messages = load("messages")
    every = "gen_random_uuid(), gen_random_uuid(), NULL, NULL, NULL, false, NULL, NULL, 20"
    person = Chosen(blind=Blind("address", b"", b""))
    tenant = db.as_tenant(tenant_id)
    async with tenant.transaction() as transaction:
        await transaction.execute("SET LOCAL enable_seqscan = off")
        for sql, arguments in (
            (messages.find_messages, "$$$tenant, ARRAY[gen_random_uuid()]"),
            (statement(EVERY, is_backwards=False), f"$$$tenant, {every}"),
            (statement(person, is_backwards=False), f"$$$tenant, {every}, 'address', '\\x00', '\\x00'"),
            (messages.list_events, "$$$tenant, gen_random_uuid()"),
        ):
            name = f"plan_{uuid.uuid4().hex}"
            await transaction.execute(f"PREPARE {name} AS {sql}")
            rows = await transaction.fetch(
                f"EXPLAIN EXECUTE {name} ({arguments.replace('$$$tenant', repr(str(tenant_id)))})"
            )
            plan = "\n".join(row[0] for row in rows)
            condition = next(line for line in plan.splitlines() if "Index Cond" in line)
            assert "tenant_id" in condition, plan
            assert "message_id" in condition or "value" in condition, plan
