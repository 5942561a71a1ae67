"""Nothing personal and no credential can be read from the database: not from a dump, not from its files.

Mails in which everything personal is marked go through real api and worker processes, to servers
that echo the recipient's address; then dumps, data files, write-ahead log and the server's own log
are searched for the marks in every encoding. Tags stand in clear by design and prove each search:
theirs must be found where the marks must not.
"""

import base64
import hashlib
import os
import subprocess
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stdnum.br import cnpj, cpf

from bench.gateway import Gateway
from email_gateway.embedded import binaries
from email_gateway.errors import DatabaseRefused
from email_gateway.store.database import Database
from tests.flow.caller import Caller
from tests.flow.conftest import Run
from tests.flow.operator import Operator
from tests.flow.smarthost import DROPPED, GREYLISTED, REFUSED, Smarthost
from tests.marks import MARK, find_marks, marked, tax_ids, unfold
from tests.plugins.marks import Watch
from tests.webhooks.receivers import Receiver, receiving

# aiosmtpd is right in general; here nothing leaves the machine.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")]

CONTROL = "Kx4InClear"  # what may be found, and must
IN_ERRORS = "Wf8InErrors"  # what statements that fail carry; not a mark, since an aborted row stays in its file
LARGE = 100_000  # sealed off the event loop, stored out of line
KEPT = ("delivered", "delivered", "delivered")
# How the smarthost answers whom, and what becomes of the mail's deliveries: to, cc, bcc.
ENDS = {
    "taken": (None, KEPT),
    "refused": (REFUSED, ("bounced", "delivered", "delivered")),
    "grey": (GREYLISTED, ("queued", "delivered", "delivered")),
    "doubtful": (DROPPED, ("dead", "dead", "dead")),
}


@dataclass(frozen=True, repr=False)
class AtRest:
    """What a gateway left behind, and what must not stand in it."""

    home: Path
    dumps: dict[str, bytes]
    marks: list[str]
    hashable: list[bytes]
    credentials: dict[str, str]

    def files(self, under: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of every file of the server's data directory, or of a folder in it."""
        folder = self.home / "postgres" / "data"
        for file in (folder / under).rglob("*"):
            if file.is_file():
                yield str(file.relative_to(folder)), file.read_bytes()


@pytest.fixture(scope="module")
async def at_rest(run: Run, smarthost: Smarthost, watch: Watch) -> AsyncIterator[AtRest]:
    """Send marked mail to every end and read it back; then dump the database and flush its files."""
    with run(TRANSPORT="smtp", SMTP_URL=smarthost.url, LOG_FORMAT="json") as gateway:
        db = await Database.connect(gateway.postgres.url, pool_size=1)
        # Compressed page images would hide from the search what the write-ahead log holds in clear.
        await db.execute("ALTER ROLE CURRENT_USER SET wal_compression = off")
        gateway.start("api")
        gateway.start("worker")
        caller = Caller(gateway)
        async with receiving() as receiver:
            await keep_everything(caller, receiver)
            numbers, hashable = await send_everything(gateway, caller, smarthost, watch)
            await receiver.until(len(ENDS))
        session = await look_at_everything(gateway, watch)
        await refuse_everything(caller)
        hashable += caller.bodies
        await caller.close()
        await plant_controls(db)
        await db.execute("CHECKPOINT")
        yield AtRest(
            home=gateway.home,
            dumps={"plain": dump(gateway, "plain", "--inserts"), "custom": dump(gateway, "custom", "--compress=none")},
            marks=[MARK, *numbers, *((cpf if len(number) == 11 else cnpj).format(number) for number in numbers)],
            hashable=hashable,
            credentials={**gateway.secrets, "a session's token": session},
        )
        await db.close()


async def keep_everything(caller: Caller, receiver: Receiver) -> None:
    """Keep a template and a webhook that are marked wherever they may be, and send by the template.

    The webhook is told everything, and says it back.
    """

    async def echo(_reader: StreamReader, writer: StreamWriter) -> None:
        body = receiver.received[-1].body
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    receiver.behave = echo
    hook = {"endpoint": f"{receiver.url}&mark={marked('endpoint')}", "events": ["email.sent"], "include_personal": True}
    assert (await caller.http.post("/v1/webhooks", json=hook)).status_code == 201
    template = {
        "name": "Bill",
        "alias": "bill",
        "from": f"{marked('template-name')} <{marked('template-sender')}@example.com>",
        "reply_to": f"{marked('template-reply')}@example.com",
        "subject": f"{marked('template-subject')} {{{{{{NAME}}}}}}",
        "html": f"<p>{marked('template-html')} {{{{{{NAME}}}}}}",
        "text": marked("template-text"),
        "variables": [{"key": "NAME", "type": "string", "fallback_value": marked("fallback")}],
    }
    assert (await caller.http.post("/v1/templates", json=template)).status_code == 201
    assert (await caller.http.post("/v1/templates/bill/publish")).status_code == 200
    for variables in ({}, {"NAME": marked("variable")}):
        message = {"to": f"{marked('by-template')}@example.net", "template": {"id": "bill", "variables": variables}}
        assert (await caller.http.post("/v1/emails", json=message)).status_code == 202


async def send_everything(
    gateway: Gateway, caller: Caller, smarthost: Smarthost, watch: Watch
) -> tuple[list[str], list[bytes]]:
    """Let mail come to every end, of both transports; return the tax ids, and what an index might hash."""
    fresh, numbers, hashable = tax_ids(), [], []
    for transport in ("smtp", "inbox"):
        if transport == "inbox":
            for part in ("worker", "api"):
                assert gateway.end(part) == 0
                gateway.start(part, TRANSPORT=transport)
        for person, (answer, states) in ENDS.items():
            to, key, number = f"{marked(person)}@example.net", marked("key"), next(fresh)
            watch.add("a tax id", number)
            if answer is not None:
                smarthost.answer(to, answer)
            mail = mail_to(to, number)
            email_id = await caller.send(key, **mail)
            await caller.wait_for(email_id, *(states if transport == "smtp" else KEPT), attempts=1)
            await read_back(caller, email_id, to, mail["recipient"])
            if transport == "smtp" and answer in (REFUSED, GREYLISTED):
                assert any(to in (event["reply"] or "") for event in await caller.timeline(email_id))
            numbers.append(number)
            hashable += [text.encode() for text in (to, to.lower(), key, number, mail["recipient"]["external_id"])]
    suppressed = {"email": f"{marked('suppressed')}@example.net", "note": marked("note")}
    assert (await caller.http.post("/v1/suppressions", json=suppressed)).status_code == 201
    assert (await caller.http.get(f"/v1/suppressions/{suppressed['email']}")).json()["note"] == suppressed["note"]
    return numbers, [*hashable, *(text.encode() for text in suppressed.values())]


def mail_to(address: str, tax_id: str) -> dict[str, Any]:
    """A mail in which every field that can hold something personal holds a mark."""
    file = os.urandom(200) + marked("file").encode() + os.urandom(200)
    picture = f"{marked('picture')} ".encode() * (LARGE // 20)
    return {
        "sender": f"{marked('sender-name')} <{marked('sender')}@example.com>",
        "to": f"{marked('to-name')} <{address}>",
        "cc": [f"{marked('cc')}@example.net"],
        "bcc": [f"{marked('bcc')}@example.net"],
        "reply_to": f"{marked('reply-name')} <{marked('reply')}@example.com>",
        "subject": f"Cobrança {marked('subject')}",
        "html": f"<p>ç {marked('html')}</p>" * (LARGE // 30),
        "text": f"ç {marked('text')}",
        "headers": {"X-Invoice": marked("header")},
        "attachments": [
            {"filename": f"{marked('name')}.pdf", "content": base64.b64encode(file).decode()},
            {"filename": "a.png", "content": base64.b64encode(picture).decode(), "content_id": marked("cid")},
        ],
        "recipient": {"tax_id": tax_id, "name": marked("person"), "external_id": marked("external")},
        "tags": [{"name": "campaign", "value": CONTROL}],
        "on_doubt": "hold",
    }


async def read_back(caller: Caller, email_id: str, to: str, person: dict[str, str]) -> None:
    """Look at the mail in every way there is: what is shown must not be kept or logged in clear."""
    for criterion in ({"tax_id": person["tax_id"]}, {"address": to}, {"external_id": person["external_id"]}):
        assert await caller.find(**criterion) == [email_id]
    assert (await caller.http.get("/v1/emails")).status_code == 200
    for letter in await caller.dead_letters():
        assert (await caller.admin.get(f"/dlq/{letter['id']}")).status_code == 200


async def look_at_everything(gateway: Gateway, watch: Watch) -> str:
    """Show an operator every page, with messages and replies in clear; return the session's token."""
    operator = Operator(gateway)
    await operator.look_at_everything()
    await operator.close()
    watch.add("a session's token", operator.session)
    pages = "".join(operator.opened.values())
    assert all(word in pages for word in ("refused.Zq9", "Cobrança", "is unknown here"))  # the marks have been shown
    return operator.session


async def refuse_everything(caller: Caller) -> None:
    """Ask for what is refused, with marks wherever something can be written: nothing of it may stay."""
    mark, good = marked("refused"), {"from": "a@example.com", "to": "b@example.net", "subject": "x", "text": "x"}
    post, get = caller.http.post, caller.http.get
    answers = [
        await post("/v1/emails", json={**good, "to": f"{mark} at example.net"}),
        await post("/v1/emails", json={**good, mark: mark}),
        await post("/v1/emails", json={**good, "headers": {mark: f"{mark}\r\nBcc: {mark}@example.net"}}),
        await post("/v1/emails", json={**good, "attachments": [{"filename": mark, "content": f"{mark}!"}]}),
        await post("/v1/emails", json={**good, "recipient": {"tax_id": mark, "name": f"{mark}\0"}}),
        await post("/v1/emails", content=f'{{"to": "{mark}'),
        await post("/v1/emails", json=good, headers={"Authorization": f"Bearer {mark}"}),
        await post("/v1/emails", json=good, headers={"Idempotency-Key": mark * 50}),
        await post("/v1/emails/batch", json=[good, {**good, "subject": f"{mark}\n"}]),
        await post("/v1/emails/search", json={"tax_id": mark}),
        await post("/v1/suppressions", json={"email": mark, "note": f"{mark}\n"}),
        await get(f"/v1/suppressions/{mark}@example.net"),
        await get(f"/v1/emails/{mark}"),
        await get(f"/v1/{mark}?{mark}={mark}"),
        await get("/v1/emails", params={"after": mark}, headers={"User-Agent": mark, "X-Request-Id": mark}),
        await caller.admin.get(f"/dlq/{mark}", params={"reason": mark}),
        await caller.admin.get("/dlq", headers={"x-admin-key": mark}),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.request.url
        assert MARK not in answer.text, answer.text


async def plant_controls(db: Database) -> None:
    """Leave in clear and encoded what the search must find, and make the server refuse what it must not log."""
    await db.execute(
        "CREATE TABLE control AS SELECT convert_to($1, 'UTF8') AS as_bytes, encode($1::bytea, 'base64') AS as_base64".replace(
            "$1", f"'{CONTROL}'"
        )
    )
    with pytest.raises(DatabaseRefused):
        await db.execute(f"SELECT '{IN_ERRORS}'::uuid")
    with pytest.raises(DatabaseRefused):
        await db.execute("INSERT INTO tenant (tenant_id, name) SELECT tenant_id, $1 FROM tenant", IN_ERRORS)


def dump(gateway: Gateway, form: str, *options: str) -> bytes:
    command: list[str | Path] = [
        binaries() / "pg_dump",
        f"--format={form}",
        *options,
        f"--dbname={gateway.postgres.url}",
    ]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def findings(files: Iterator[tuple[str, bytes]], marks: list[str]) -> list[str]:
    """Return what was found, with its surroundings: they name the field, and everything here is made up."""
    return [
        f"{name}: {found.encoding}, {content[max(0, found.offset - 40) : found.offset + 80]!r}"
        for name, content in files
        for found in find_marks(content, marks)
    ]


@pytest.mark.parametrize("form", ["plain", "custom"])
async def test_a_dump_holds_no_mark(at_rest: AtRest, form: str) -> None:
    dumped = at_rest.dumps[form]
    assert not findings(iter([(form, dumped), (f"{form}, lines joined", unfold(dumped))]), at_rest.marks)


async def test_the_data_files_hold_no_mark(at_rest: AtRest) -> None:
    assert not findings(at_rest.files("."), at_rest.marks)


async def test_the_servers_own_log_holds_no_mark(at_rest: AtRest) -> None:
    log = (at_rest.home / "postgres.log").read_bytes()
    assert b"ready to accept connections" in log
    assert not findings(iter([("postgres.log", log)]), [*at_rest.marks, IN_ERRORS])


async def test_neither_dump_nor_files_hold_a_credential(at_rest: AtRest) -> None:
    everything = [*at_rest.dumps.items(), *at_rest.files(".")]
    for name, value in at_rest.credentials.items():
        assert not findings(iter(everything), [value]), name


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
async def test_no_value_is_stored_as_a_hash_that_anyone_could_compute(at_rest: AtRest, algorithm: str) -> None:
    dumped = at_rest.dumps["plain"]
    control = hashlib.sha256(at_rest.credentials["an API key"].encode())  # 256 random bits need no secret
    assert control.hexdigest().encode() in dumped
    for value in at_rest.hashable:
        assert hashlib.new(algorithm, value).hexdigest()[:32].encode() not in dumped


async def test_each_search_finds_what_stands_in_clear(at_rest: AtRest) -> None:
    plain, custom = at_rest.dumps["plain"], at_rest.dumps["custom"]
    assert {found.encoding for found in find_marks(plain, [CONTROL])} >= {"clear", "hex", "base64 at 0"}
    assert find_marks(custom, [CONTROL])
    assert findings(at_rest.files("base"), [CONTROL])
    assert findings(at_rest.files("pg_wal"), [CONTROL])


async def test_what_was_searched_holds_sealed_values_of_every_kind(at_rest: AtRest) -> None:
    dumped = at_rest.dumps["plain"].decode()
    mails = 2 * len(ENDS)
    for table, least in {"message": mails, "attachment": 2 * mails, "inbox_mail": len(ENDS), "event": 7 * mails,
                         "idempotency": mails, "blind_index": 5 * mails, "audit": 3 * mails,
                         "suppression": 2}.items():  # fmt: skip
        assert dumped.count(f"INSERT INTO public.{table} VALUES") >= least, table
    answers = [
        line for line in dumped.splitlines() if "INSERT INTO public.webhook_delivery " in line and "'\\xe101" in line
    ]
    assert len(answers) >= len(ENDS)
    for table in ("template_version", "webhook"):
        assert f"INSERT INTO public.{table} VALUES" in dumped
    replies = [line for line in dumped.splitlines() if "INSERT INTO public.event " in line and "'\\xe101" in line]
    assert len(replies) >= 2  # the bounce and the greylisting, with the address that they echo
