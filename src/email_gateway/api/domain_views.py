"""A sending domain as operators see it, under /admin and on the command line, with the next step."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from email_gateway.delivery.domains import Sight
from email_gateway.mail.domains import DomainState, KeyState, Shown, key_record_name, key_record_value
from email_gateway.store.domains import DkimKey, Domain

PUBLISH = "Publish the records of the pending keys, then verify the domain."
ADVICE = {
    DomainState.PENDING: f"Nothing is signed yet. {PUBLISH}",
    DomainState.FAILED: "The DNS no longer shows the keys that sign: receivers find the mail unsigned. Publish the records"
    " of the active keys again, then verify the domain.",
    DomainState.VERIFIED: "Nothing to do.",
}
RECORD_WORDS = {
    Shown.RIGHT: "published",
    Shown.MISSING: "not there: publish it, and give the DNS some minutes",
    Shown.DIFFERENT: "another value stands there: replace it",
    Shown.SEVERAL: "several records stand there: leave one",
    Shown.UNKNOWN: "the DNS did not answer",
}
SPF_ADVICE = {
    Shown.RIGHT: "See that it includes the server that mail leaves through.",
    Shown.MISSING: "Publish TXT `v=spf1 include:... ~all` with what the provider of your smarthost names.",
    Shown.SEVERAL: "Leave one record: with several, receivers go by none.",
    Shown.UNKNOWN: "The DNS did not answer.",
}
DMARC_ADVICE = {
    Shown.RIGHT: "Nothing to do.",
    Shown.MISSING: "Publish TXT `v=DMARC1; p=none; rua=mailto:...` at _dmarc below the domain; large receivers ask for it.",
    Shown.SEVERAL: "Leave one record: with several, receivers go by none.",
    Shown.UNKNOWN: "The DNS did not answer.",
}


class KeyView(msgspec.Struct, frozen=True):
    """A key and its record: `pending` is to be published, `active` signs, `retiring` must stay published for a while."""

    id: str
    selector: str
    algorithm: str
    state: str
    record_name: str
    record_type: str
    record_value: str
    created_at: datetime
    activated_at: datetime | None
    retiring_at: datetime | None
    retired_at: datetime | None
    removable_at: Annotated[datetime | None, Meta(description="When its record may be removed from the DNS.")]


class DomainDetail(msgspec.Struct, frozen=True):
    """A domain that a tenant sends from, with its keys, the oldest first."""

    id: str
    tenant_id: str
    name: str
    state: Annotated[str, Meta(description="`pending`, `verified`, or `failed`: the DNS shows its keys no more.")]
    created_at: datetime
    checked_at: datetime | None
    verified_at: datetime | None
    keys: list[KeyView]
    to_do: str


class RecordSeen(msgspec.Struct, frozen=True):
    """What the DNS shows of one record: `right`, `missing`, `different`, `several` or `unknown`; and what that means.

    `value` is the SPF or DMARC record that stands there, or in the organisation's domain.
    """

    name: str
    shown: str
    to_do: str
    value: str | None = None


class Verified(msgspec.Struct, frozen=True):
    """A domain after the DNS was asked, and what was seen. SPF and DMARC are advice: they decide nothing here."""

    domain: DomainDetail
    records: list[RecordSeen]
    spf: RecordSeen
    dmarc: RecordSeen


def domain_detail(domain: Domain) -> DomainDetail:
    """Return a domain as it is answered."""
    return DomainDetail(
        id=str(domain.domain_id),
        tenant_id=str(domain.tenant_id),
        name=domain.name,
        state=domain.state,
        created_at=domain.created_at,
        checked_at=domain.checked_at,
        verified_at=domain.verified_at,
        keys=[_key_view(domain, key) for key in domain.keys],
        to_do=advise(domain),
    )


def verified_view(domain: Domain, sight: Sight) -> Verified:
    """Return what a verification saw as it is answered."""
    records = [
        RecordSeen(key_record_name(key.selector, domain.name), shown, RECORD_WORDS[shown])
        for key in domain.keys
        if (shown := sight.keys.get(key.dkim_key_id)) is not None
    ]
    return Verified(
        domain_detail(domain),
        records,
        RecordSeen(domain.name, sight.spf.shown, SPF_ADVICE[sight.spf.shown], sight.spf.record),
        RecordSeen(f"_dmarc.{domain.name}", sight.dmarc.shown, DMARC_ADVICE[sight.dmarc.shown], sight.dmarc.record),
    )


def advise(domain: Domain) -> str:
    """Say what is to be done about a domain now."""
    if domain.state is DomainState.VERIFIED and any(key.state is KeyState.PENDING for key in domain.keys):
        return f"The older keys sign until the new ones are there. {PUBLISH}"
    retiring = [key.removable_at for key in domain.keys if key.state is KeyState.RETIRING and key.removable_at]
    if domain.state is DomainState.VERIFIED and retiring:
        return f"Leave the records of the retiring keys until {max(retiring):%Y-%m-%d}, then remove them from the DNS."
    return ADVICE[domain.state]


def _key_view(domain: Domain, key: DkimKey) -> KeyView:
    return KeyView(
        id=str(key.dkim_key_id),
        selector=key.selector,
        algorithm=key.algorithm,
        state=key.state,
        record_name=key_record_name(key.selector, domain.name),
        record_type="TXT",
        record_value=key_record_value(key.algorithm, key.public_key),
        created_at=key.created_at,
        activated_at=key.activated_at,
        retiring_at=key.retiring_at,
        retired_at=key.retired_at,
        removable_at=key.removable_at,
    )
