"""Amazon SES, where mail leaves through it: whether the account may send, to whom, and how much is left of its day."""

import re
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from email_gateway.operator.doctor.credentials import AwsClients
from email_gateway.operator.doctor.findings import Finding, broken, ok, skipped, warning
from email_gateway.operator.doctor.subject import Subject
from email_gateway.secrets.failures import Failure
from email_gateway.secrets.secrets_manager import classify
from email_gateway.secrets.threads import call_in_thread

# https://docs.aws.amazon.com/general/latest/gr/ses.html, and the names of VPC endpoints
_SMTP_HOST = re.compile(r"(?:.+\.)?email-smtp(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?")
NEARLY_SPENT = 0.8  # of the quota of 24 hours
UNLIMITED = -1


def find_region(host: str) -> str | None:
    """Return the region whose SES this smarthost is; None for every other server."""
    found = _SMTP_HOST.fullmatch(host.lower().rstrip("."))
    return found["region"] if found else None


async def check_ses(subject: Subject, region: str) -> Finding:
    """Ask SES about this process's own account; `ses:GetAccount` reads and changes nothing."""
    try:
        clients = await call_in_thread(lambda: AwsClients.of(subject))
        account = await call_in_thread(lambda: clients.client("sesv2", region).get_account())
    except (BotoCoreError, ClientError) as error:
        failed = classify(error)
        if failed.failure is Failure.DENIED:
            return skipped("ses", f"this role may not ask ({failed.code}): ses:GetAccount shows sandbox and quota")
        return skipped("ses", f"SES in {region} cannot be asked ({failed.code})")
    return judge_account(account, region, is_production=subject.is_production)


def judge_account(account: dict[str, Any], region: str, *, is_production: bool) -> Finding:
    """Name the worst of what keeps mail from leaving; `account` is the answer of GetAccount."""
    step = f"aws sesv2 get-account --region {region}"
    if not account.get("SendingEnabled", True) or account.get("EnforcementStatus") == "SHUTDOWN":
        means = (
            "SES takes no mail of this account: all mail waits. Its case in the Support Center says what SES asks for."
        )
        return broken("ses", f"sending is paused in {region}", means, step)
    if not account.get("ProductionAccessEnabled", True):
        means = (
            "In the sandbox SES sends to verified addresses only and refuses every other. Ask for production access."
        )
        judge = broken if is_production else warning
        return judge("ses", f"the account is in the sandbox in {region}", means, step)
    quota = account.get("SendQuota", {})
    most, sent = quota.get("Max24HourSend", UNLIMITED), quota.get("SentLast24Hours", 0)
    seen = f"{region}: {_share(sent, most)}, at most {quota.get('MaxSendRate', 0):g} mails a second"
    if most != UNLIMITED and sent >= most:
        return broken("ses", seen, "The quota of 24 hours is spent: mail waits until some of it is a day old.", step)
    if most != UNLIMITED and sent >= most * NEARLY_SPENT:
        return warning(
            "ses", seen, "The quota of 24 hours is nearly spent; when it is, mail waits. Ask for more.", step
        )
    if account.get("EnforcementStatus") == "PROBATION":
        means = "SES has the account under review for bounces or complaints, and pauses it next. See to its reputation."
        return warning("ses", f"the account is under review in {region}", means, step)
    return ok("ses", seen)


def _share(sent: float, most: float) -> str:
    return f"{sent:.0f} mails in 24 hours" + ("" if most == UNLIMITED else f" of {most:.0f}")
