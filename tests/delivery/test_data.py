"""The octets of a message: no end of data in them but the one that is ours, by anybody's reading."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.delivery.data import encode_data
from tests.smtp_servers import ANY_END

pieces = st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"\r\n", b"\r\n.\r\n"])


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\r\r\n", b"a\r\n\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"..", b"...\r\n"),
        (b"a\r\n.\r\n.b\r\n..\r\n", b"a\r\n..\r\n..b\r\n...\r\n"),
        (b"a.\r\n b.c\r\n", b"a.\r\n b.c\r\n"),
        (b"a\r\n\0.\r\n", b"a\r\n..\r\n"),
        (b"a\r\0\n.\r\n", b"a\r\n..\r\n"),
        (b"", b"\r\n"),
    ],
)
def test_lines_end_in_crlf_and_dots_are_doubled(raw: bytes, data: bytes) -> None:
    assert encode_data(raw) == data


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_no_reading_finds_an_end_before_ours(raw: bytes) -> None:
    data = encode_data(raw)
    assert ANY_END.search(data) is None
    assert not re.search(rb"\0|\r(?!\n)|(?<!\r)\n", data)
    assert data.endswith(b"\r\n")


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_a_reader_gets_back_the_lines_that_were_written(raw: bytes) -> None:
    read = [line.removeprefix(b".") for line in encode_data(raw).split(b"\r\n")]
    lines = re.split(rb"\r\n|\r|\n", raw.replace(b"\0", b""))
    assert read == (lines if lines[-1] == b"" and len(lines) > 1 else [*lines, b""])
