"""Replies from octets: every form that is none is refused, whatever arrives and however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.delivery.reply_parser import BadReply, Reply, ReplyParser


def parse(*chunks: bytes) -> list[Reply]:
    parser, replies = ReplyParser(), list[Reply]()
    for chunk in chunks:
        parser.feed(chunk, replies)
    return replies


def test_a_reply_has_a_code_and_the_text_of_each_line() -> None:
    assert parse(b"250-first\r\n250-\r\n250 last\r\n") == [Reply(250, (b"first", b"", b"last"))]


def test_a_code_alone_is_a_reply() -> None:
    assert parse(b"250\r\n") == [Reply(250, (b"",))]


def test_several_replies_come_out_in_order() -> None:
    assert [reply.code for reply in parse(b"250 a\r\n354 b\r\n550 c\r\n")] == [250, 354, 550]


def test_a_reply_may_arrive_octet_by_octet() -> None:
    whole = b"250-first\r\n250 last\r\n"
    assert parse(*(whole[i : i + 1] for i in range(len(whole)))) == parse(whole)


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"150 wait\r\n",
        b"650 ok\r\n",
        b"-50 ok\r\n",
        b" 250 ok\r\n",
        b"250 ok\n",
        b"25\xb2 ok\r\n",
        "\uff12\uff15\uff10 ok\r\n".encode(),
        b"250-a\r\n251 b\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
        b"\x00250 ok\r\n",
        b"250 " + b"x" * 5000 + b"\r\n",
        b"x" * 5000,
        b"250-x\r\n" * 20_000,
    ],
)
def test_what_is_no_reply_is_refused(octets: bytes) -> None:
    with pytest.raises(BadReply):
        parse(octets)


def test_a_line_without_end_is_refused_before_it_fills_memory() -> None:
    with pytest.raises(BadReply):
        parse(*[b"2" * 1000] * 5)


def test_whole_replies_before_a_mistake_are_kept() -> None:
    parser, replies = ReplyParser(), list[Reply]()
    with pytest.raises(BadReply):
        parser.feed(b"250 ok\r\ngarbage\r\n", replies)
    assert replies == [Reply(250, (b"ok",))]


@given(st.binary(max_size=200), st.integers(1, 200))
def test_no_octets_crash_the_parser_and_cuts_change_nothing(octets: bytes, cut: int) -> None:
    results = []
    for chunks in ([octets], [octets[:cut], octets[cut:]]):
        try:
            results.append([(reply.code, reply.text, reply.enhanced) for reply in parse(*chunks)])
        except BadReply:
            results.append([(0, "refused", None)])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("line", "enhanced"),
    [
        (b"550 5.1.1 no such user", "5.1.1"),
        (b"550 5.1.10 null MX", "5.1.10"),
        (b"250 2.0.0", "2.0.0"),
        (b"550-5.7.1 listed", "5.7.1"),
        (b"550 4.1.1 contradicts the code", None),
        (b"550 5.1.1no blank", None),
        (b"550 5.1.1111 too long", None),
        (b"550 version 5.1.1", None),
        (b"550", None),
    ],
)
def test_the_enhanced_code_stands_at_the_beginning_and_agrees(line: bytes, enhanced: str | None) -> None:
    end = b"\r\n550 end\r\n" if line[3:4] == b"-" else b"\r\n"
    assert parse(line + end)[0].enhanced == enhanced


def test_the_text_is_one_line_with_nothing_that_controls_a_screen() -> None:
    hostile = "\x1b[2Jred\x00\x07\x85\u2028\u202egnp.exe\x7f".encode() + b"\xff\rX"
    text = parse(b"550-" + hostile + b"\r\n550 second\r\n")[0].text
    assert text == r"\x1b[2Jred\x00\x07\x85\u2028\u202egnp.exe\x7f\xff\rX second"
    assert text.isprintable()


@given(st.lists(st.binary(max_size=700).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=5))
def test_the_text_never_exceeds_one_kibibyte(lines: list[bytes]) -> None:
    text = Reply(550, tuple(lines)).text
    assert len(text.encode()) <= 1024
    assert text.isprintable()


def test_the_repr_of_a_reply_has_no_text() -> None:
    assert repr(Reply(550, (b"<maria@example.net>: unknown",))) == "Reply(550)"
