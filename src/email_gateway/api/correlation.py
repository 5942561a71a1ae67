"""What ties a request to its caller's own records: an id, and a trace that goes on here."""

import re

# As Phoenix's Plug.RequestId bounds it, in characters that no log or header reads as its own. It reaches the log: twenty
# are more than a tax id or a telephone number has, and no address or full name does without a dot, an @ or a space.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_=+:-]{20,128}")
# W3C Trace Context, section 3.2: version 00, a trace and a parent that are not zero, flags.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def find_request_id(headers: dict[bytes, bytes]) -> str | None:
    """Return the caller's `X-Request-Id`, None without one that is well-formed."""
    return _find(headers, b"x-request-id", _REQUEST_ID)


def find_traceparent(headers: dict[bytes, bytes]) -> str | None:
    """Return the caller's `traceparent` of 55 characters, None without one that is well-formed."""
    return _find(headers, b"traceparent", _TRACEPARENT)


def _find(headers: dict[bytes, bytes], name: bytes, form: re.Pattern[bytes]) -> str | None:
    value = headers.get(name, b"")
    return value.decode("ascii") if form.fullmatch(value) else None
