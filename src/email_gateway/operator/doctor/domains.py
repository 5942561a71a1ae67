"""The sending domains in the DNS: whether what receivers look for is still there."""

import asyncio
from collections.abc import Sequence

from email_gateway.delivery.dns import Resolver
from email_gateway.delivery.domains import Sight, deciding_keys, look_up
from email_gateway.errors import GatewayError
from email_gateway.mail.domains import KeyState, Shown
from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.secret_values import Values
from email_gateway.operator.doctor.subject import Subject
from email_gateway.store.database import Database
from email_gateway.store.domains import Domain, list_proven_domains

CHECK = "domains"
# Each is five questions or more. Of more domains every run sees others.
MOST_DOMAINS = 50
AT_A_TIME = 10
NAMED = 3
LOST = (Shown.MISSING, Shown.DIFFERENT, Shown.SEVERAL)

KEY_MEANS = (
    "Receivers find this mail unsigned, and refuse it where DMARC says so. Publish what `domains show` prints, and"
    " verify the domain."
)
UNKNOWN_MEANS = (
    "The servers of DNS_RESOLVERS, or of /etc/resolv.conf, do not answer: domains cannot be verified, and nobody knows"
    " what receivers see."
)
SPF_MEANS = "Large receivers ask for SPF: one TXT record v=spf1 that includes the server that mail leaves through."
DMARC_MEANS = "Large receivers ask for a DMARC policy: one TXT record v=DMARC1 at _dmarc below the domain."


async def check_domains(subject: Subject, url: str | None, values: Values) -> list[Finding]:
    """Ask the DNS about the domains that are or were verified, a bounded number of them for a bounded time."""
    if url is None:
        why = "there is no database to read them from" if values.is_complete else "the database's URL cannot be read"
        return [skipped(CHECK, why)]
    try:
        async with asyncio.timeout(subject.bound / 2):
            domains = await _read(subject, url)
    except (GatewayError, TimeoutError):  # what is wrong with the database stands beside its own checks
        return [skipped(CHECK, "PostgreSQL cannot be asked for them")]
    if not domains:
        return [ok(CHECK, "none is verified yet: mail leaves unsigned")]
    asked = domains[:MOST_DOMAINS]
    sights = await _look(subject, asked)
    return judge_domains(list(zip(asked, sights, strict=True)), has_more=len(domains) > MOST_DOMAINS)


async def _read(subject: Subject, url: str) -> list[Domain]:
    db = await Database.connect(url, pool_size=1, make_password=subject.make_password(url))
    try:
        return await list_proven_domains(db, MOST_DOMAINS + 1)
    finally:
        await db.close()


async def _look(subject: Subject, domains: Sequence[Domain]) -> list[Sight | None]:
    """Ask about each domain, some at a time; None for those that time was too short for."""
    resolver = Resolver(subject.settings.dns_resolvers, within=subject.bound / 4)
    turn = asyncio.Semaphore(AT_A_TIME)

    async def look(domain: Domain) -> Sight:
        async with turn:
            return await look_up(resolver, domain)

    tasks = [asyncio.create_task(look(domain)) for domain in domains]
    await asyncio.wait(tasks, timeout=subject.bound * 3 / 8)
    sights = [task.result() if task.done() else None for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sights


def judge_domains(seen: Sequence[tuple[Domain, Sight | None]], *, has_more: bool) -> list[Finding]:
    """Return one finding for each kind of trouble, with the domains that have it, or one that all is well."""
    lost = [(domain, shown) for domain, sight in seen if sight and (shown := _worst(domain, sight)) in LOST]
    silent = [domain for domain, sight in seen if sight is None or _worst(domain, sight) is Shown.UNKNOWN]
    findings = []
    if lost:
        words = {shown.value for _, shown in lost}
        findings.append(
            broken(
                CHECK,
                f"the record of a key that signs is {' or '.join(sorted(words))}: {_name([one for one, _ in lost])}",
                KEY_MEANS,
                f"email-gateway domains show {lost[0][0].name} --tenant {lost[0][0].tenant_id}",
            )
        )
    if silent:
        findings.append(
            warning(CHECK, f"the DNS does not answer about {_name(silent)}", UNKNOWN_MEANS, f"dig TXT {silent[0].name}")
        )
    for what, place, means, without in (
        ("SPF", "", SPF_MEANS, [domain for domain, sight in seen if sight and sight.spf.shown in LOST]),
        ("DMARC", "_dmarc.", DMARC_MEANS, [domain for domain, sight in seen if sight and sight.dmarc.shown in LOST]),
    ):
        if without:
            seen_now = f"no {what} record, or several: {_name(without)}"
            findings.append(warning(CHECK, seen_now, means, f"dig TXT {place}{without[0].name}"))
    more = "; there are more, and each run looks at others" if has_more else ""
    return findings or [ok(CHECK, f"{len(seen)}: keys, SPF and DMARC are published{more}")]


def _worst(domain: Domain, sight: Sight) -> Shown:
    """Return the worst of what is shown of the keys that sign."""
    shown = {sight.keys[key.dkim_key_id] for key in deciding_keys(domain) if key.state is KeyState.ACTIVE}
    return next((one for one in (*LOST, Shown.UNKNOWN) if one in shown), Shown.RIGHT)


def _name(domains: Sequence[Domain]) -> str:
    names = ", ".join(domain.name for domain in domains[:NAMED])
    return names + (f" and {len(domains) - NAMED} more" if len(domains) > NAMED else "")
