"""Sending domains whose records are gone, changed, or behind a DNS that does not answer."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.domains import Sight, add_domain, verify_domain
from email_gateway.mail.domains import Policy, Shown
from email_gateway.operator.doctor import Finding, Level
from email_gateway.operator.doctor.domains import judge_domains
from email_gateway.store.accounts import create_tenant
from email_gateway.store.domains import Domain
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.roots import derive_root
from tests.dns_server import DnsServer, publish
from tests.given_roots import only
from tests.operator.doctor.stand import Stand
from tests.plugins.secrets_manager import VALUES

pytestmark = [pytest.mark.anyio, pytest.mark.needs("redis-server")]


@dataclass
class Zone:
    """A stand with a verified domain in a DNS of this test's own, which has SPF and DMARC too."""

    stand: Stand
    dns: DnsServer
    domain: Domain

    async def findings(self) -> list[Finding]:
        report = await self.stand.look({"DNS_RESOLVERS": self.dns.address})
        return [finding for finding in report.findings if finding.check == "domains"]


@pytest.fixture
async def zone(stand: Stand) -> AsyncIterator[Zone]:
    root = derive_root(VALUES["encryption-key"], VALUES["encryption-salt"])
    keyring = await Keyring.start(stand.admin, only(root))
    tenant = await create_tenant(stand.admin, "billing", actor="test")
    async with DnsServer() as dns:
        domain = await add_domain(stand.admin, keyring, tenant.tenant_id, "acme.example", actor="test")
        publish(dns, domain)
        dns.texts |= {"acme.example": ["v=spf1 -all"], "_dmarc.acme.example": ["v=DMARC1; p=reject"]}
        resolver = Resolver([("127.0.0.1", dns.port)])
        domain, _ = await verify_domain(stand.admin, resolver, domain, actor="test")
        yield Zone(stand, dns, domain)


async def test_what_is_published_as_it_must_be_is_ok(zone: Zone) -> None:
    (finding,) = await zone.findings()
    assert (finding.level, finding.seen) == (Level.OK, "1: keys, SPF and DMARC are published")


async def test_without_a_verified_domain_nothing_is_asked(stand: Stand) -> None:
    report = await stand.look()
    (finding,) = (finding for finding in report.findings if finding.check == "domains")
    assert (finding.level, finding.seen) == (Level.OK, "none is verified yet: mail leaves unsigned")


@pytest.mark.parametrize(
    ("texts", "word"),
    [([], "missing"), (["v=DMARC1; p=AAAA"], "different"), (["v=DKIM1; p=AAAA", "v=DKIM1; p=BBBB"], "several")],
)
async def test_a_key_that_is_not_what_it_was_is_broken(zone: Zone, texts: list[str], word: str) -> None:
    key = zone.domain.keys[0]
    zone.dns.texts[f"{key.selector}._domainkey.acme.example"] = texts
    (finding,) = await zone.findings()
    assert (finding.level, finding.seen) == (
        Level.BROKEN,
        f"the record of a key that signs is {word}: acme.example",
    )
    assert finding.next_step == f"email-gateway domains show acme.example --tenant {zone.domain.tenant_id}"


async def test_spf_and_dmarc_are_warned_of(zone: Zone) -> None:
    del zone.dns.texts["acme.example"]
    zone.dns.texts["_dmarc.acme.example"] *= 2
    zone.dns.texts["_dmarc.acme.example"][1] += " "
    spf, dmarc = await zone.findings()
    assert (spf.level, dmarc.level) == (Level.WARNING, Level.WARNING)
    assert spf.seen == "no SPF record, or several: acme.example"
    assert dmarc.seen == "no DMARC record, or several: acme.example"
    assert dmarc.next_step == "dig TXT _dmarc.acme.example"


@pytest.mark.parametrize("trouble", ["failing", "silent"])
async def test_a_dns_that_does_not_answer_is_warned_of_and_holds_nothing_up(zone: Zone, trouble: str) -> None:
    getattr(zone.dns, trouble).update(zone.dns.texts)
    findings = await zone.findings()
    assert [(finding.level, finding.seen) for finding in findings] == [
        (Level.WARNING, "the DNS does not answer about acme.example")
    ]


async def test_a_database_that_is_away_or_older_leaves_nothing_to_ask(zone: Zone) -> None:
    await zone.stand.admin.execute("DROP TABLE dkim_key, domain")
    (finding,) = await zone.findings()
    assert (finding.level, finding.seen) == (Level.SKIPPED, "PostgreSQL cannot be asked for them")


async def test_many_domains_are_named_in_short(zone: Zone) -> None:
    names = [f"d{number}.example" for number in range(5)]
    keys = {key.dkim_key_id: Shown.MISSING for key in zone.domain.keys}
    seen = [(replace(zone.domain, name=name), Sight(keys, Policy(Shown.RIGHT), Policy(Shown.RIGHT))) for name in names]
    (finding,) = judge_domains(seen, has_more=False)
    assert finding.seen.endswith("d0.example, d1.example, d2.example and 2 more")
    good = [
        (domain, Sight(dict.fromkeys(keys, Shown.RIGHT), Policy(Shown.RIGHT), Policy(Shown.RIGHT)))
        for domain, _ in seen
    ]
    (finding,) = judge_domains(good, has_more=True)
    assert (finding.level, "there are more" in finding.seen) == (Level.OK, True)
    (finding,) = judge_domains([(zone.domain, None)], has_more=False)
    assert finding.level is Level.WARNING, "time was too short"
