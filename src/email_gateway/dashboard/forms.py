"""Reading the dashboard's own small forms, capped before they are parsed."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from email_gateway.errors import InvalidRequest, TooLarge

MAX_FORM_BYTES = 16 * 1024
MAX_FIELDS = 20


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of an application/x-www-form-urlencoded body; of a repeated one the last.

    Raises TooLarge above 16 KiB and InvalidRequest for anything that is not such a form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise InvalidRequest("a form was expected")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge("the form is too large")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:  # UnicodeDecodeError is one
        raise InvalidRequest("the form cannot be read") from None


def clean_line(text: str, longest: int) -> str:
    """Return one printable line of at most `longest` characters, for the audit; empty if nothing is left."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest].strip()
