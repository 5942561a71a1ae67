"""The session's own reading and writing: capabilities, addresses, and the octets of each command."""

import asyncio
import math
import socket
import time
from datetime import timedelta

import pytest

from email_gateway.delivery.commands import InvalidArgument, check_address, parse_capabilities
from email_gateway.delivery.replies import Stage
from email_gateway.delivery.reply_parser import Reply
from email_gateway.delivery.smtp import ConversationFailed, SmtpConnection
from email_gateway.delivery.target import Timeouts
from email_gateway.delivery.wire import Wire
from tests.delivery.attempting import RAW, Recorder, outgoing, transport_to
from tests.smtp_servers import SmtpServer

pytestmark = pytest.mark.anyio


def ehlo(*lines: bytes) -> Reply:
    return Reply(250, (b"test.example", *lines))


@pytest.mark.parametrize(
    ("lines", "capabilities"),
    [
        ((), {}),
        ((b"SIZE 1000", b"starttls", b"8bitmime"), {"SIZE": "1000", "STARTTLS": "", "8BITMIME": ""}),
        ((b"AUTH PLAIN login",), {"AUTH": "PLAIN LOGIN"}),
        ((b"AUTH=LOGIN", b"AUTH PLAIN"), {"AUTH": "LOGIN PLAIN"}),
        ((b"", b"\xff\x00", b" STARTTLS", b"-X", b"<script>"), {}),
        ((b"STARTTLS extra words",), {"STARTTLS": "EXTRA WORDS"}),
    ],
)
def test_an_ehlo_reply_names_capabilities(lines: tuple[bytes, ...], capabilities: dict[str, str]) -> None:
    assert parse_capabilities(ehlo(*lines)) == capabilities


def test_a_server_cannot_fill_memory_with_capabilities() -> None:
    assert len(parse_capabilities(ehlo(*(b"X%d" % n for n in range(1000))))) <= 64


def test_the_first_line_of_an_ehlo_reply_is_no_capability() -> None:
    assert parse_capabilities(Reply(250, (b"STARTTLS",))) == {}


@pytest.mark.parametrize("address", ["a@b.example", "o'neil+tag/x=y@b.example", "{}|~^@b.example", "x" * 254])
def test_an_address_of_visible_ascii_may_stand_in_a_command(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize("address", ["josé@b.example", "用户@b.example", "é" * 122 + "@b.example"])
def test_an_address_beyond_ascii_may_stand_where_the_server_takes_utf8(address: str) -> None:
    assert check_address(address, takes_utf8=True) == address
    for refused in (f"{address}>", f"{address} x", f"\u2028{address}", f"\x85{address}", f"\ud800{address}", "é" * 128):
        with pytest.raises(InvalidArgument):
            check_address(refused, takes_utf8=True)


@pytest.mark.parametrize("code", [*range(0x21), 0x3C, 0x3E, *range(0x7F, 0xA0), 0xE9, 0x2028])
def test_no_control_space_bracket_or_other_letter_may(code: int) -> None:
    for address in (f"{chr(code)}a@b.example", f"a{chr(code)}@b.example", f"a@b.example{chr(code)}"):
        with pytest.raises(InvalidArgument) as refused:
            check_address(address)
        assert "b.example" not in str(refused.value)


@pytest.mark.parametrize(
    ("keywords", "command"),
    [
        (("SIZE 1000",), b"MAIL FROM:<billing@acme.example> SIZE=%d" % len(RAW)),
        (("SIZE",), b"MAIL FROM:<billing@acme.example> SIZE=%d" % len(RAW)),
        (("SIZE 0",), b"MAIL FROM:<billing@acme.example> SIZE=%d" % len(RAW)),
        (("SIZE many",), b"MAIL FROM:<billing@acme.example> SIZE=%d" % len(RAW)),
        ((), b"MAIL FROM:<billing@acme.example>"),
    ],
)
async def test_the_size_is_declared_where_the_server_wants_it(keywords: tuple[str, ...], command: bytes) -> None:
    server = SmtpServer(keywords=keywords)
    async with server, transport_to(server) as transport:
        await transport.send(outgoing(), Recorder())
    assert server.heard[1].line == command
    assert len(server.receipts) == 1


async def test_a_dot_that_the_kernel_does_not_take_in_time_has_not_left() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    listener.bind(("127.0.0.1", 0))

    async def never_read(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"220 test.example\r\n")

    server = await asyncio.start_server(never_read, sock=listener)
    wire = await Wire.open("127.0.0.1", listener.getsockname()[1], 10)
    assert wire._socket is not None
    wire._socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    connection = SmtpConnection(wire, Timeouts(dot=timedelta(milliseconds=50)), math.inf)
    await connection.read_greeting()
    with pytest.raises(ConversationFailed) as failed:
        await connection.finish(b"x" * 200_000, time.monotonic() + 0.2)
    assert (failed.value.stage, failed.value.reason) == (Stage.DATA, "timeout")
    assert not connection.is_reusable
    server.close()
