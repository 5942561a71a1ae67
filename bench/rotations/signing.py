"""Domains that sign under load: their keys are changed through the API, and another verifier judges the mails."""

import http.client
from typing import Any

import dkim

from bench.rotations.operator import Operator
from email_gateway.mail.domains import Algorithm, key_record_name, key_record_value
from email_gateway.store.database import Queries
from email_gateway.vault.keyring import Keyring

DOMAIN = "example.com"  # what all mails of the load are from
MOST_JUDGED = 2_000  # the verifier is written in Python


def begin_signing(operator: Operator, tenants: int) -> None:
    """Add the domain to the oldest tenants, and verify it."""
    for (tenant_id,) in operator.stand.sql(f"SELECT tenant_id FROM tenant ORDER BY created_at LIMIT {tenants}"):
        _post(operator, "/admin/domains", {"tenant_id": str(tenant_id), "name": DOMAIN})
    _publish_all(operator)


def change_keys(operator: Operator) -> None:
    """Make new keys for every domain, publish them, and have them sign."""
    operator.note()
    for domain in _domains(operator):
        _post(operator, f"/admin/domains/{domain['id']}/rotate")
    _publish_all(operator)


def find_unsettled(operator: Operator) -> str | None:
    """Say how many domains have not exactly one key of each algorithm that signs, and older ones beside them."""
    wanted = {"active": len(Algorithm), "retiring": len(Algorithm)}
    unsettled = [
        domain
        for domain in _domains(operator)
        if any(sum(key["state"] == state for key in domain["keys"]) < least for state, least in wanted.items())
    ]
    return f"{len(unsettled)} domains do not sign with new keys" if unsettled else None


async def judge_signatures(db: Queries, keyring: Keyring) -> dict[str, dict[str, int]]:
    """Count the signatures that are accepted, and the keys in use that signed anything, of a sample of the mails."""
    keys = await db.fetch(
        "SELECT selector, name, algorithm, public_key FROM dkim_key JOIN domain USING (tenant_id, domain_id)"
        " WHERE dkim_key.state IN ('active', 'retiring')"
    )
    records = {
        f"{key_record_name(selector, name)}.".encode(): key_record_value(Algorithm(algorithm), public).encode()
        for selector, name, algorithm, public in keys
    }
    seen: set[bytes] = set()
    accepted = refused = 0
    rows = await db.fetch(
        f"SELECT tenant_id, inbox_id, sealed_raw FROM inbox_mail ORDER BY random() LIMIT {MOST_JUDGED}"
    )
    for tenant_id, inbox_id, sealed in rows:
        raw = await keyring.open(tenant_id, "inbox.raw", inbox_id, sealed)
        judge = dkim.DKIM(raw)
        for at in range(raw.partition(b"\r\n\r\n")[0].count(b"DKIM-Signature: ")):
            if judge.verify(idx=at, dnsfunc=lambda name, **_: records.get(name)):
                accepted += 1
                seen.add(judge.selector)
            else:
                refused += 1
    return {
        "signatures": {"opened": accepted, "unreadable": refused},
        "signing keys in mails": {"opened": len(seen), "unreadable": len(records) - len(seen)},
    }


def _publish_all(operator: Operator) -> None:
    for domain in _domains(operator):
        for key in domain["keys"]:
            operator.stand.zone.texts[key["record_name"]] = [key["record_value"]]
        _post(operator, f"/admin/domains/{domain['id']}/verify")


def _domains(operator: Operator) -> list[dict[str, Any]]:
    status, answer = operator.request("GET", "/admin/domains?limit=100")
    if status != http.client.OK:
        raise RuntimeError(f"the domains were answered {status} {answer.get('code')}")
    domains: list[dict[str, Any]] = answer["data"]
    return domains


def _post(operator: Operator, path: str, body: dict[str, object] | None = None) -> None:
    status, answer = operator.request("POST", path, body)
    if status not in (http.client.OK, http.client.CREATED):
        raise RuntimeError(f"POST {path} was answered {status} {answer.get('code')}")
