"""Replies of an SMTP server, from octets: strict about form, capped in size, without I/O."""

import re
from typing import NamedTuple

MAX_LINE_OCTETS = 4096  # RFC 5321 section 4.5.3.1.5 allows 512; servers that explain themselves exceed it
MAX_REPLY_OCTETS = 64 * 1024
MAX_TEXT_OCTETS = 1024

# The first digit as in RFC 5321 section 4.2.1 (1yz does not occur in SMTP). The second is not held to
# 0..5: servers do invent 585.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
# RFC 3463 section 2.
_ENHANCED = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?=[ \t]|\Z)")


class BadReply(Exception):
    """The octets are no reply; the connection cannot be trusted any further."""


class Reply(NamedTuple):
    """One reply: its code, and each line's text as octets. Servers echo addresses: no text in the repr."""

    code: int
    lines: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Reply({self.code})"

    @property
    def is_positive(self) -> bool:
        return self.code < 300

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_closing(self) -> bool:
        """Whether the server closes the connection behind this reply (RFC 5321 section 3.8)."""
        return self.code == 421

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code, unless its class contradicts the reply's (RFC 2034 section 4)."""
        match = _ENHANCED.match(self.lines[0])
        if match is None or match[0][0] - ord("0") != self.code // 100:
            return None
        return match[0].decode("ascii")

    @property
    def text(self) -> str:
        """What the server said on one line of at most 1 KiB, with all that controls a screen escaped."""
        raw = b" ".join(self.lines)[:MAX_TEXT_OCTETS]
        text = raw.decode("utf-8", errors="backslashreplace")
        if not text.isprintable():
            text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
        return text.encode()[:MAX_TEXT_OCTETS].decode(errors="ignore")


class ReplyParser:
    """Turns what arrives into replies; feed it every octet in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._code = b""
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing but whole replies has arrived."""
        return not self._rest and not self._lines

    def feed(self, octets: bytes, replies: list[Reply]) -> None:
        """Add the replies that are complete now to `replies`, in order.

        Raises BadReply for a line that is no reply line, a line end that is not CRLF, codes that
        differ within one reply, a line over 4 KiB or a reply over 64 KiB; whole replies before the
        mistake have been added.
        """
        *lines, rest = (self._rest + octets if self._rest else octets).split(b"\n")
        for line in lines:
            if not line.endswith(b"\r"):
                raise BadReply("a line does not end in CRLF")
            self._take(line[:-1], replies)
        if len(rest) > MAX_LINE_OCTETS:
            raise BadReply("a line is too long")
        self._rest = rest

    def _take(self, line: bytes, replies: list[Reply]) -> None:
        match = _LINE.fullmatch(line)
        octets = len(line)
        if match is None or octets > MAX_LINE_OCTETS or self._size + octets > MAX_REPLY_OCTETS:
            raise BadReply("a line is too long or no reply")
        code, separator, text = match.groups()
        is_last = separator != b"-"
        if is_last and not self._lines:  # as nearly all are
            replies.append(Reply(int(code), (text or b"",)))
            return
        if self._lines and code != self._code:
            raise BadReply("the codes of one reply differ")
        self._code = code
        self._lines.append(text or b"")
        self._size += octets
        if is_last:
            replies.append(Reply(int(code), tuple(self._lines)))
            self._lines, self._size = [], 0
