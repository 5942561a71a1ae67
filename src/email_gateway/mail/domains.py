"""Sending domains: the states of their keys, the records to publish, and whether what the DNS shows is right. No I/O."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# A name may have 253 octets (RFC 1035 section 2.3.4); a selector of ours and `_domainkey` stand before it.
MAX_NAME_OCTETS = 220

_TAG = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=(.*)", re.DOTALL)
_WHITE_SPACE = re.compile(r"\s+")


class Algorithm(StrEnum):
    """How a key signs. The first is understood by every receiver, the second by some (RFC 8463)."""

    RSA = "rsa-sha256"
    ED25519 = "ed25519-sha256"

    @property
    def key_type(self) -> str:
        """Return the word of the record's `k=` tag."""
        return self.value.partition("-")[0]


class DomainState(StrEnum):
    """Whether the DNS has shown that the tenant may send from a domain; `failed` once did and does no more."""

    PENDING = "pending"
    VERIFIED = "verified"
    FAILED = "failed"


class KeyState(StrEnum):
    """A key's way: published, signing, no longer signing but still published, gone."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


class Shown(StrEnum):
    """What the DNS shows where a record should stand."""

    RIGHT = "right"
    MISSING = "missing"
    DIFFERENT = "different"
    SEVERAL = "several"  # the outcome is undefined then (RFC 6376 section 3.6.2.2, RFC 7208 section 4.5)
    UNKNOWN = "unknown"  # the DNS did not answer


@dataclass(frozen=True, slots=True)
class Policy:
    """What the DNS shows of SPF or DMARC, and the record where there is one; it must be one."""

    shown: Shown
    record: str | None = None


def lineage_of(name: str) -> list[str]:
    """Return a domain and its parents of two labels and more, the longest first."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(max(len(labels) - 1, 1))]


def key_record_name(selector: str, domain: str) -> str:
    """Return where a key is published (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def key_record_value(algorithm: Algorithm, public_key: bytes) -> str:
    """Return what is published of a key: its SubjectPublicKeyInfo for RSA, the 32 octets for Ed25519 (RFC 8463 section 4)."""
    return f"v=DKIM1; k={algorithm.key_type}; p={base64.b64encode(public_key).decode()}"


def judge_key_record(texts: Sequence[str], algorithm: Algorithm, public_key: bytes) -> Shown:
    """Compare the TXT records of a key's name with the key, as a verifier reads them (RFC 6376 section 3.6.1)."""
    if not texts:
        return Shown.MISSING
    if len(texts) > 1:
        return Shown.SEVERAL
    tags = parse_tags(texts[0])
    if tags is None or tags.get("v", "DKIM1") != "DKIM1" or tags.get("k", "rsa") != algorithm.key_type:
        return Shown.DIFFERENT
    if not _allows(tags.get("h", "*"), "sha256") or not _allows(tags.get("s", "*"), "email"):
        return Shown.DIFFERENT
    try:
        published = base64.b64decode(_WHITE_SPACE.sub("", tags.get("p", "")), validate=True)
    except (binascii.Error, ValueError):
        return Shown.DIFFERENT
    return Shown.RIGHT if published == public_key else Shown.DIFFERENT


def judge_spf(texts: Sequence[str]) -> Policy:
    """Find a domain's one SPF record; whom it must allow is for the operator to know (RFC 7208 section 4.5)."""
    return _one_of([text for text in texts if re.match(r"v=spf1( |$)", text, re.IGNORECASE)])


def judge_dmarc(texts: Sequence[str]) -> Policy:
    """Find a name's one DMARC record (RFC 7489 section 6.6.3)."""
    return _one_of([text for text in texts if re.match(r"v\s*=\s*DMARC1\s*(;|$)", text)])


def parse_tags(text: str) -> dict[str, str] | None:
    """Read a tag list (RFC 6376 section 3.2); None for what is none, or has a tag twice."""
    tags: dict[str, str] = {}
    for part in text.rstrip("; \t\r\n").split(";"):
        match = _TAG.fullmatch(part)
        if match is None or match[1] in tags:
            return None
        tags[match[1]] = match[2].strip()
    return tags


def _allows(given: str, wanted: str) -> bool:
    return not {wanted, "*"}.isdisjoint(one.strip() for one in given.split(":"))


def _one_of(records: Sequence[str]) -> Policy:
    if len(records) == 1:
        return Policy(Shown.RIGHT, records[0])
    return Policy(Shown.SEVERAL if records else Shown.MISSING)
