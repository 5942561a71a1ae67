"""A good set-up of real parts, to be broken in one place: AWS, PostgreSQL, Redis and a smarthost."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from email_gateway.cli.doctor import render
from email_gateway.operator.doctor import Finding, Level, Report, Subject
from email_gateway.operator.doctor.examination import examine
from email_gateway.store.database import Database
from tests.delivery.certificates import Authority
from tests.marks import MARK
from tests.moto_server import REGION
from tests.plugins.marks import Watch
from tests.plugins.secrets_manager import VALUES, Aws
from tests.redis_server import running_redis
from tests.smtp_servers import SmtpServer

# The machine may be busy, and nothing here waits for what does not come.
PATIENT = 30.0
PASSWORD = f"doctor-{MARK}-password"
USER = f"user.{MARK}"


@dataclass
class Stand:
    """The parts; a test breaks one before `look`. What is pushed on `stack` is undone after the test."""

    aws: Aws
    admin: Database
    database_url: str
    redis_url: str
    smarthost: SmtpServer
    authority: Authority
    stack: AsyncExitStack
    login: str = field(default_factory=lambda: f"doctor_{uuid.uuid4().hex[:12]}")
    bound: float = PATIENT

    @property
    def process_url(self) -> str:
        return f"postgresql://{self.login}:{PASSWORD}@{self.database_url.rpartition('@')[2]}"

    @property
    def smtp_url(self) -> str:
        return f"smtp://{USER}:{PASSWORD}@127.0.0.1:{self.smarthost.port}?tls=required"

    async def look(self, environ: Mapping[str, str] | None = None, *, is_production: bool = False) -> Report:
        """Examine this set-up with these settings beside its own; the report shows nothing that it must not."""
        settings = self.aws.settings({"TRANSPORT": "smtp", **(environ or {})})
        subject = Subject(settings, is_production=is_production, bound=self.bound)
        report = await examine(subject, trust=self.authority.trust())
        require_silence(report)
        return report

    def kms(self) -> Any:
        """Return the operator's client of KMS; its types are not installed."""
        make: Any = boto3.session.Session(region_name=REGION).client
        return make("kms", endpoint_url=self.aws.url)


def require_silence(report: Report) -> None:
    """Fail where the report holds a secret, a user, or anything personal, in either form."""
    told = render(report) + repr(report)
    for secret in (*VALUES.values(), PASSWORD, USER, MARK):
        assert secret not in told


def problems(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.level in (Level.WARNING, Level.BROKEN)]


def found(report: Report, check: str) -> Finding:
    (finding,) = (finding for finding in report.findings if finding.check == check)
    return finding


@asynccontextmanager
async def good_stand(aws: Aws, db: Database, database_url: str, folder: Path, watch: Watch) -> AsyncIterator[Stand]:
    """Set everything up as an operator would who has read the pages."""
    authority = Authority()
    watch.add("a password that the doctor was given", PASSWORD)
    async with AsyncExitStack() as stack:
        redis_url, _ = stack.enter_context(running_redis(folder))
        smarthost = await stack.enter_async_context(SmtpServer(tls=authority.server(), users={USER: PASSWORD}))
        stand = Stand(aws, db, database_url, redis_url, smarthost, authority, stack)
        await db.execute(
            f"CREATE ROLE {stand.login} LOGIN PASSWORD '{PASSWORD}' IN ROLE email_gateway_service, email_gateway_tenant"
        )
        stack.push_async_callback(db.execute, f"DROP ROLE {stand.login}")
        aws.create({"database-url": stand.process_url, "redis-url": redis_url, "smtp-url": stand.smtp_url})
        yield stand
