"""SMTP smuggling: a server that ends a message wherever any server ever did must see one message."""

import asyncio

import pytest

from email_gateway.mail.compose import compose
from email_gateway.mail.content import Address, Attachment, Content
from email_gateway.mail.deliveries import Verdict
from tests.delivery.attempting import Recorder, claims_for, outgoing, transport_to
from tests.smtp_servers import SmtpServer

pytestmark = pytest.mark.anyio

ENDS = ("\n", "\r", "\r\n", "\r\r\n", "\n\r", "\r\0\n", "\n\n")
DOTS = (".", "\0.", ".\0", "..", ". ")
VARIANTS = [before + dot + after for before in ENDS for dot in DOTS for after in ENDS]
SECOND = "MAIL FROM:<evil@acme.example>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


def assert_one_message(server: SmtpServer, count: int = 1) -> None:
    assert len(server.receipts) == count
    assert not [heard.line for heard in server.heard if b"evil" in heard.line or b"victim" in heard.line]


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
async def test_no_end_of_data_in_a_raw_message_ends_it(variant: str) -> None:
    raw = b"Subject: x\r\n\r\nhello" + variant.encode() + SECOND.encode()
    server = SmtpServer(lenient=True)
    async with server, transport_to(server) as transport:
        (outcome,) = await transport.send(outgoing(raw=raw), Recorder())
    assert outcome.verdict is Verdict.DELIVERED
    assert_one_message(server)


async def test_no_end_of_data_in_a_composed_message_ends_it() -> None:
    server = SmtpServer(lenient=True)
    variants = [variant for variant in VARIANTS if "\0" not in variant]  # the composer refuses NUL
    async with server, transport_to(server) as transport:
        for variant in variants:
            smuggling = f"hello{variant}{SECOND}"
            content = Content(
                sender=Address("billing@acme.example"),
                envelope=("maria@example.net",),
                subject="x",
                text=smuggling,
                html=f"<p>{smuggling}",
            )
            attachment = Attachment("a.txt", "text/plain", smuggling.encode())
            claims = claims_for()
            raw = compose(content, [attachment], message_id=claims.message_id, created_at=claims.created_at)
            (outcome,) = await transport.send(outgoing(raw=raw), Recorder())
            assert outcome.verdict is Verdict.DELIVERED
    assert_one_message(server, len(variants))


async def test_the_lenient_server_is_one_that_can_be_smuggled_into() -> None:
    """The test of the test: octets that are not made safe do become two messages."""
    server = SmtpServer(lenient=True)
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhello\n.\r\n"
            + SECOND.encode()
            + b"QUIT\r\n"
        )
        await reader.read()
        writer.close()
    assert len(server.receipts) == 2
