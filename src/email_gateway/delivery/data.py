"""A composed message as the octets between DATA and the final dot."""

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")


def encode_data(raw: bytes) -> bytes:
    """Return `raw` with CRLF line ends only, dot-stuffed (RFC 5321 section 4.5.2), ending in CRLF.

    Some servers end the message at a dot between bare line feeds, or drop a NUL beside it: a text
    that held one could smuggle in a second message (CVE-2023-51764 to 51766). So line ends are
    made uniform and NULs removed before dots are doubled; the composer writes neither, this is
    what must hold whoever composed.
    """
    if b"\0" in raw:
        raw = raw.replace(b"\0", b"")
    ends = raw.count(b"\r\n")
    if raw.count(b"\n") != ends or raw.count(b"\r") != ends:
        raw = _LINE_END.sub(b"\r\n", raw)
    if b"\r\n." in raw:
        raw = raw.replace(b"\r\n.", b"\r\n..")
    if raw.startswith(b"."):
        raw = b"." + raw
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"
