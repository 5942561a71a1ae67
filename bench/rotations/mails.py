"""The mails of the load test, each known by its number: what was sent can be told from what is read."""

import base64
import itertools
import re
from typing import Any

from email_gateway.mail.tax_ids import TaxId, parse_tax_id
from tests.marks import MARK, tax_ids

PEOPLE = 97
LINES = 12
SUBJECT = re.compile(rf"Invoice {MARK} ([0-9]+)")
FILE = base64.b64encode(bytes(range(256)) * 8).decode()
ATTACHED_EVERY, BOUNCED_EVERY, LONG_EVERY = 20, 50, 200
LONG_LINES = 6000  # more than a value in one piece holds

_PEOPLE = [parse_tax_id(tax_id) for tax_id in itertools.islice(tax_ids(), PEOPLE)]


def person_of(number: int) -> TaxId:
    """Return whom a mail is about."""
    return _PEOPLE[number % PEOPLE]


def mail(number: int) -> dict[str, Any]:
    """Return a mail about one person; some have an attachment, some are long, and some bounce, so that a reply is kept."""
    recipient = "bounce+" if number % BOUNCED_EVERY == 0 else ""
    attachments = [{"filename": f"{MARK}.bin", "content": FILE}] if number % ATTACHED_EVERY == 0 else []
    lines = LONG_LINES if number % LONG_EVERY == 0 else LINES
    return {
        "from": f"{MARK} <billing@example.com>",
        "to": f"{recipient}{MARK}.{number}@example.net",
        "subject": f"Invoice {MARK} {number}",
        "text": f"Invoice {number}\n" + f"A line of an ordinary invoice, and {MARK} in each of them.\n" * lines,
        "recipient": {"tax_id": person_of(number).canonical},
        "attachments": attachments,
    }


def find_fault(shown: dict[str, Any], number: int | None = None) -> str | None:
    """Say what is wrong with a mail as the API shows it, or None; `number` is which it must be, where known."""
    subject = SUBJECT.fullmatch(shown["subject"])
    if subject is None or (number is not None and int(subject[1]) != number):
        return "another subject than was sent"
    if (shown["person"] or {}).get("tax_id") != person_of(int(subject[1])).masked:
        return "another tax id than was sent"
    return None
