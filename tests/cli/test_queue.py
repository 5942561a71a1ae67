"""`queue`, `dlq` and `trace`, each as the process that an operator starts; nothing personal is shown."""

import uuid
from datetime import timedelta

import pytest

from email_gateway.store import pace
from email_gateway.store.accepting import Acceptor
from email_gateway.store.audit import list_audit
from email_gateway.store.database import Database
from email_gateway.store.pace import Why
from tests.cli.terminal import COLUMNS, at_terminal
from tests.cli.test_commands import run, told
from tests.makers import new_message, new_request

pytestmark = pytest.mark.anyio


async def accept(db: Database, tenant_id: uuid.UUID, *domains: str) -> uuid.UUID:
    message = new_message(domains=domains or ("example.net",))
    await Acceptor(db).accept(new_request(tenant_id, message))
    return message.message_id


async def make_dead(db: Database, tenant_id: uuid.UUID, reason: str, domain: str = "example.net") -> str:
    message_id = await accept(db, tenant_id, domain)
    await db.execute(
        "UPDATE delivery SET state = 'dead', reason = $2, finished_at = now() WHERE message_id = $1", message_id, reason
    )
    return f"{message_id}-0"


async def state_of(db: Database, delivery_id: str) -> str:
    row = await db.fetch_one(
        "SELECT state FROM delivery WHERE message_id = $1", uuid.UUID(delivery_id.rpartition("-")[0])
    )
    assert row is not None
    return str(row["state"])


async def hold_by_replies(db: Database) -> None:
    why = Why("auth", "auth_failed", 535, "5.7.8")
    await pace.hold(db, "smtp", "", why, probe_in=timedelta(minutes=5), is_probe=False)


async def test_an_empty_queue_says_so(database_url: str) -> None:
    done = await run("queue", DATABASE_URL=database_url)
    assert done.stdout == b"0 wait, 0 of them due; 0 are being sent\n"


async def test_the_queue_shows_ages_holds_and_what_to_do_within_80_columns(
    database_url: str, db: Database, tenant_id: uuid.UUID
) -> None:
    await accept(db, tenant_id, "example.net", f"{'a-long-name.' * 6}example.org")
    await make_dead(db, tenant_id, "in_doubt")
    await hold_by_replies(db)
    await pace.slow(db, "smtp", "to:slow.example", Why("dot", "rate_limited", 454), rate=14, unheard=timedelta(0))
    code, shown = at_terminal("queue", DATABASE_URL=database_url)
    assert code == 0
    assert max(len(line) for line in shown.splitlines()) <= COLUMNS
    for words in (
        "2 wait, 2 of them due",
        "<5min",
        "route smtp, for",
        "auth_failed at auth (535 5.7.8)",
        "next try in",
        "Put the right user and password",
        "mail to slow.example on route smtp",
        "14 a second",
        "1 dead letters (in_doubt)",
    ):
        assert words in shown


async def test_the_json_of_the_queue_is_that_of_the_api(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    await hold_by_replies(db)
    queue = await told("queue", DATABASE_URL=database_url)
    assert queue["queued"]["by_age"]["5min"] == 1
    assert queue["lanes"][0]["name"] == "route smtp"
    assert queue["waits_for_you"][0]["kind"] == "held"


async def test_a_hold_is_placed_shown_and_released(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    held = await told(
        "queue", "hold", "--from", "Acme.Example", "--tenant", "acme", "--reason", "ticket 4711",
        DATABASE_URL=database_url,
    )  # fmt: skip
    assert held == {"name": f"mail from acme.example of tenant {tenant_id}", "is_held": True}
    shown = (await run("queue", DATABASE_URL=database_url)).stdout.decode()
    assert "ticket 4711" in shown
    released = await run(
        "queue", "release", "--from", "acme.example", "--tenant", str(tenant_id), DATABASE_URL=database_url
    )
    assert released.stdout.decode().startswith("released: mail from acme.example")
    assert [(entry.action, entry.reason) for entry in await list_audit(db)] == [
        ("queue.released", None),
        ("queue.held", "ticket 4711"),
    ]


async def test_what_is_not_held_by_hand_cannot_be_released_and_the_answer_says_what_can(
    database_url: str, db: Database
) -> None:
    await hold_by_replies(db)
    by_replies = await run("queue", "release", "--route", "smtp", DATABASE_URL=database_url)
    assert by_replies.returncode == 1
    assert b"`queue flush`" in by_replies.stderr
    await run("queue", "hold", "--to", "example.net", "--reason", "ticket 4711", DATABASE_URL=database_url)
    other = await run("queue", "release", "--to", "example.org", DATABASE_URL=database_url)
    assert other.returncode == 1
    assert b"held by hand: mail to example.net" in other.stderr


async def test_flush_probes_and_makes_due(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    await accept(db, tenant_id)
    await db.execute("UPDATE delivery SET next_attempt_at = now() + interval '1 hour'")
    await hold_by_replies(db)
    done = (await run("queue", "flush", DATABASE_URL=database_url)).stdout.decode()
    assert "probed now: route smtp" in done
    assert "due now: 1 deliveries" in done
    again = await told("queue", "flush", "--to", "example.net", DATABASE_URL=database_url)
    assert again == {"probed": [], "deliveries": 0, "has_more": False}


@pytest.mark.parametrize(
    "arguments",
    [
        ("queue", "hold", "--reason", "ticket 4711"),
        ("queue", "hold", "--to", "example.net"),
        ("queue", "hold", "--to", "example.net", "--reason", "x"),
        ("queue", "hold", "--route", "pigeon", "--reason", "ticket 4711"),
        ("queue", "hold", "--all", "--to", "example.net", "--reason", "ticket 4711"),
        ("queue", "release"),
        ("dlq", "retry"),
        ("dlq", "retry", "--all", "--reason", "in_doubt"),
        ("dlq", "discard", "x-0", "--all"),
        ("dlq", "list", "--older-than", "yesterday"),
        ("trace", "not-an-id"),
    ],
)
async def test_wrong_usage_exits_2_and_changes_nothing(
    database_url: str, db: Database, arguments: tuple[str, ...]
) -> None:
    assert (await run(*arguments, DATABASE_URL=database_url)).returncode == 2
    assert await list_audit(db) == []


async def test_dead_letters_are_listed_with_what_to_do(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    dead = [await make_dead(db, tenant_id, reason) for reason in ("in_doubt", "worker_lost")]
    code, shown = at_terminal("dlq", "list", DATABASE_URL=database_url)
    assert code == 0
    assert max(len(line) for line in shown.splitlines()) <= COLUMNS
    assert shown.startswith("2 dead letters")
    assert "look into the server's log" in " ".join(shown.split())
    assert all(one in shown for one in dead)
    page = await told("dlq", "list", "--limit", "1", DATABASE_URL=database_url)
    assert (page["total"], page["has_more"], page["data"][0]["id"]) == (2, True, dead[1])
    rest = await run("dlq", "list", "--after", dead[1], DATABASE_URL=database_url)
    assert dead[0] in rest.stdout.decode()
    assert (await told("dlq", "list", "--older-than", "1h", DATABASE_URL=database_url))["total"] == 0


async def test_one_dead_letter_is_shown_retried_and_discarded(
    database_url: str, db: Database, tenant_id: uuid.UUID
) -> None:
    first, second = [await make_dead(db, tenant_id, "in_doubt") for _ in range(2)]
    shown = await run("dlq", "show", first, DATABASE_URL=database_url)
    assert f"email-gateway trace {first.rpartition('-')[0]}" in shown.stdout.decode()
    assert "  accepted " in shown.stdout.decode()
    assert (await told("dlq", "show", first, DATABASE_URL=database_url))["delivery"]["reason"] == "in_doubt"
    assert await told("dlq", "retry", first, "--why", "ticket 4711", DATABASE_URL=database_url) == {"changed": 1}
    assert await told("dlq", "discard", second, DATABASE_URL=database_url) == {"changed": 1}
    assert [await state_of(db, one) for one in (first, second)] == ["queued", "cancelled"]
    assert (await run("dlq", "retry", first, DATABASE_URL=database_url)).returncode == 1, "it is not dead any more"
    assert [(entry.action, entry.reason) for entry in await list_audit(db)] == [
        ("dlq.discarded", None),
        ("dlq.retried", "ticket 4711"),
    ]


async def test_many_are_counted_first_and_asked_for(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    chosen = await make_dead(db, tenant_id, "in_doubt")
    other = await make_dead(db, tenant_id, "worker_lost", "example.org")
    nobody = await run("dlq", "retry", "--reason", "in_doubt", DATABASE_URL=database_url)
    assert nobody.returncode == 1
    assert b"1 dead letters match" in nobody.stderr
    assert b"--yes" in nobody.stderr
    code, shown = at_terminal("dlq", "retry", "--reason", "in_doubt", says=b"n\n", DATABASE_URL=database_url)
    assert (code, await state_of(db, chosen)) == (0, "dead")
    assert "retry 1 dead letters? [y/N]" in shown
    code, shown = at_terminal("dlq", "retry", "--reason", "in_doubt", says=b"y\n", DATABASE_URL=database_url)
    assert (code, await state_of(db, chosen)) == (0, "queued")
    assert "queued again: 1" in shown
    done = await told(
        "dlq", "discard", "--tenant", "acme", "--domain", "Example.org", "--yes", DATABASE_URL=database_url
    )
    assert (done, await state_of(db, other)) == ({"changed": 1}, "cancelled")
    assert await told("dlq", "discard", "--all", "--yes", DATABASE_URL=database_url) == {"changed": 0}


async def test_more_than_a_page_is_retried_in_pages(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    message = new_message(domains=("example.net",) * 50)
    for _ in range(21):
        await Acceptor(db).accept(new_request(tenant_id, new_message(domains=message.domains)))
    await db.execute("UPDATE delivery SET state = 'dead', reason = 'in_doubt', finished_at = now()")
    assert await told("dlq", "retry", "--all", "--yes", DATABASE_URL=database_url) == {"changed": 1050}
    assert [entry.subject for entry in await list_audit(db)] == [
        "0 deliveries by filter",
        "50 deliveries by filter",
        "1000 deliveries by filter",
    ]


async def test_a_trace_tells_one_mails_story(database_url: str, db: Database, tenant_id: uuid.UUID) -> None:
    message_id = await accept(db, tenant_id, "example.net", "example.org")
    await hold_by_replies(db)
    await db.execute(
        "UPDATE delivery SET state = 'dead', reason = 'worker_lost', crashes = 4, doubts = 1, finished_at = now()"
        " WHERE recipient = 1"
    )
    code, shown = at_terminal("trace", str(message_id), DATABASE_URL=database_url)
    assert code == 0
    assert max(len(line) for line in shown.splitlines()) <= COLUMNS
    plain = " ".join(shown.split())
    for words in (
        "from example.com, tenant acme",
        "0 to example.net: queued",
        "waits for: route smtp is held (auth_failed at auth (535 5.7.8)).",
        "1 to example.org: dead, worker_lost",
        "4 workers died while composing it",
        "what to do: Workers died",
        "accepted",
    ):
        assert words in plain
    trace = await told("trace", str(message_id), DATABASE_URL=database_url)
    assert [one["state"] for one in trace["deliveries"]] == ["queued", "dead"]
    unknown = await run("trace", str(uuid.uuid4()), DATABASE_URL=database_url)
    assert unknown.returncode == 1
    assert b"no mail of this id" in unknown.stderr
