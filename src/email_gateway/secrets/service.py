"""The front of the room: every secret at hand in memory, kept fresh by one background task."""

import asyncio
import contextlib
import hmac
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from email_gateway.errors import ConfigurationError, SecretUnavailable
from email_gateway.flights import NextFlight
from email_gateway.observe import get_logger
from email_gateway.secrets.admin_key import AdminKeys, digest_of
from email_gateway.secrets.clock import Clock, SystemClock
from email_gateway.secrets.failures import FetchFailed, advise
from email_gateway.secrets.fetching import Answers, Fetcher, differ
from email_gateway.secrets.secret import FROM_ENVIRONMENT, SECRETS, KnownSecret, Secret, SecretName
from email_gateway.secrets.source import PENDING, EnvironmentSource, SecretSource
from email_gateway.secrets.standing import SecretStatus, Standings
from email_gateway.settings import DEPLOYED, Settings, advise_tls

if TYPE_CHECKING:
    from email_gateway.secrets.secrets_manager import SecretsManagerSource

log = get_logger(__name__)

Subscriber = Callable[[frozenset[str]], Awaitable[None]]

# With making the client and closing it, a start that gets no answer ends within 15 s.
START_PATIENCE = timedelta(seconds=14)
SUBSCRIBER_TIMEOUT_SECONDS = 30.0
# A refresh begins somewhere in this part of the cache's life, so that instances started together
# do not ask together, and an answer is here before the old one counts as stale.
REFRESH_FROM, REFRESH_TO = 0.7, 0.9
FIRST_RETRY = 1 / 30  # of the cache's life: 10 s of 300


class SecretsService:
    """Holds every secret; reading one is a dict lookup.

    A failed refresh never takes a value away: the last good one serves, its age visible. Critical
    secrets come from the one source that was chosen, never from another.
    """

    def __init__(self, settings: Settings, source: SecretSource, clock: Clock) -> None:
        self._settings = settings
        self._fetcher = Fetcher(source, settings, clock)
        self._clock = clock
        self._lifetime = settings.secrets_cache.total_seconds()
        self._held: dict[str, Secret] = {}
        self.admin_keys = AdminKeys(clock.monotonic)
        self._standings = Standings(clock.monotonic, self._lifetime if source.can_change else None)
        self._subscribers: list[Subscriber] = []
        self._flight = NextFlight()
        self._failed_in_row = 0
        self._last_changed = frozenset[str]()
        self._refresh_at: float | None = None
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        settings: Settings,
        *,
        source: SecretSource | None = None,
        clock: Clock | None = None,
        patience: timedelta = START_PATIENCE,
    ) -> Self:
        """Fetch and validate every secret, in parallel, and keep them fresh until `close`.

        Raises ConfigurationError at once when one is denied, missing or malformed, and
        SecretUnavailable when throttles, outages or silence outlast `patience`. The message names
        each secret, where it was asked for, the error, and what to do next.
        """
        source = source or await open_source(settings)
        service = cls(settings, source, clock or SystemClock())
        try:
            service._take(await service._fetcher.fetch_until_complete(patience))
            service._require_smarthost()
        except BaseException:
            await service.close()
            raise
        if source.can_change:
            service._refresh_at = service._plan_refresh()
            service._keeper = asyncio.create_task(service._keep_fresh(), name="secrets")
        return service

    async def close(self) -> None:
        """Stop refreshing; values that were handed out stay readable."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._standings.close()
        await self._fetcher.source.close()

    def get(self, name: str) -> Secret:
        """Return the secret; raises SecretUnavailable for an optional one that is not set anywhere."""
        try:
            return self._held[name]
        except KeyError:
            raise SecretUnavailable(f"the secret {name} is not set") from None

    def find(self, name: str) -> Secret | None:
        """Return the secret, or None where an optional one is not set anywhere."""
        return self._held.get(name)

    def admin_key_matches(self, candidate: str) -> bool:
        """Tell whether this is an accepted admin key, in time that does not depend on how much agrees."""
        return self.admin_keys.is_accepted(candidate)

    def staged_admin_key_matches(self, candidate: str) -> bool:
        """Tell whether this is an admin key that waits to become current: it opens /admin/health only."""
        return self.admin_keys.is_staged(candidate)

    def rotation_key_matches(self, candidate: str) -> bool:
        """Tell whether this is the rotation function's key; without such a secret nothing is."""
        secret = self.find(SecretName.ROTATION_KEY)
        return secret is not None and hmac.compare_digest(digest_of(candidate), digest_of(secret.value))

    def origin_of(self, name: str) -> str:
        """Return where the value that serves came from, as an operator knows it: a secret, or a variable."""
        secret = self.find(name)
        if secret is None or secret.version_id == FROM_ENVIRONMENT:
            return EnvironmentSource.variable_of(name)
        return f"the secret {self._full(name)}"

    @property
    def can_change(self) -> bool:
        """Tell whether there is a source to read again; the environment of a process never changes."""
        return self._fetcher.source.can_change

    @property
    def health(self) -> str:
        """`ok`, or `degraded` while a secret serves that is older than the cache allows."""
        return "degraded" if self._standings.is_any_stale else "ok"

    def status(self) -> dict[str, SecretStatus]:
        """Return version, age and last error of each secret, by name; never a value."""
        now = self._clock.monotonic()
        left = None if self._refresh_at is None else round(max(0.0, self._refresh_at - now), 3)
        versions = {known.name: self._held.get(known.name) for known in SECRETS}
        return {
            str(name): self._standings.status(name, secret.version_id if secret else None, left)
            for name, secret in versions.items()
        }

    def subscribe(self, callback: Subscriber) -> None:
        """Have `callback` told the names that changed, after each swap; the new values are readable then.

        Callbacks run one after another, at most 30 s each; what one raises is logged.
        """
        self._subscribers.append(callback)

    async def refresh(self) -> frozenset[str]:
        """Fetch every secret now and return the names that changed; failures stand in `status`.

        One flight at a time. Whoever calls during a flight gets the next one, shared by all who
        wait: what was written before the call is read.
        """
        is_ours = await self._flight.join(self._fetch_all)
        changed = self._last_changed
        if is_ours:
            await self._tell(changed)
        return changed

    async def _fetch_all(self) -> None:
        self._last_changed = self._take(await self._fetcher.fetch_all(self._held))
        self._refresh_at = self._plan_refresh()

    async def fetch_version(self, name: str, version_id: str, *, is_former: bool = False) -> Secret:
        """Return another version of a secret by its VersionId, without keeping it.

        One that has served before is `is_former`, and taken in whatever form it is. Raises
        SecretUnavailable, also when that version is gone.
        """
        answer = await self._fetcher.fetch_version(_known(name), version_id, is_former=is_former)
        if isinstance(answer, FetchFailed):
            why = f"{answer.code}: it {answer.problem}" if answer.problem else answer.code
            raise SecretUnavailable(f"version {version_id} of the secret {name} cannot be read: {why}")
        return answer

    async def fetch_pending(self, name: str) -> Secret:
        """Return the version of a secret that is being rotated in (AWSPENDING), without keeping it.

        A database's password is changed on the server before its secret's label moves. Raises
        SecretUnavailable when there is none.
        """
        answer = await self._fetcher.fetch_version(_known(name), None, PENDING)
        if isinstance(answer, FetchFailed):
            raise SecretUnavailable(f"the secret {name} has no pending version that can be read: {answer.code}")
        return answer

    async def read_now(self, *names: str) -> list[Secret]:
        """Return secrets as they stand at their source at this moment, without keeping them.

        Raises SecretUnavailable when one cannot be read: what is in memory is no answer here.
        """
        answers = await self._fetcher.fetch_all({}, [_known(name) for name in names])
        secrets = []
        for name, answer in answers.items():
            if not isinstance(answer, Secret):
                code = answer.code if answer else "it is not set"
                raise SecretUnavailable(f"the secret {name} cannot be read now: {code}")
            secrets.append(answer)
        return secrets

    def _take(self, answers: Answers) -> frozenset[str]:
        """Put the good answers in place, all at once, and note how each fetch went."""
        held, changed = dict(self._held), set[str]()
        for name, answer in answers.items():
            if isinstance(answer, FetchFailed):
                self._standings.fail(name, answer)
                report = log.warning if answer.failure.is_passing else log.error
                report(
                    "secret_refresh_failed",
                    name=self._full(name),
                    failure=answer.failure,
                    code=answer.code,
                    error=SecretUnavailable(advise(answer)),
                )
                continue
            self._standings.confirm(name, is_held=answer is not None)
            if differ(held.get(name), answer):
                changed.add(name)
                held.pop(name, None)
                held.update({name: answer} if answer else {})
                self._announce(answer)
        self._failed_in_row = self._failed_in_row + 1 if _any_failed(answers) else 0
        self._held = held
        self.admin_keys.replace(held.get(SecretName.ADMIN_API_KEY))
        return frozenset(changed)

    def _announce(self, secret: Secret | None) -> None:
        if secret is None or secret.version_id == FROM_ENVIRONMENT:
            return
        log.info("Secret fetched from AWS Secrets Manager", name=self._full(secret.name), version_id=secret.version_id)
        if secret.name == SecretName.DATABASE_URL and self._settings.app_env in DEPLOYED:
            advice = advise_tls("The secret database-url", secret.value)
            if advice:
                log.warning(advice)

    def _full(self, name: str) -> str:
        return self._fetcher.source.full_name(name)

    def _require_smarthost(self) -> None:
        if self._settings.transport == "smtp" and SecretName.SMTP_URL not in self._held:
            raise ConfigurationError(
                f"TRANSPORT=smtp needs a smarthost: set SMTP_URL, or create the secret {self._full('smtp-url')}"
            )

    async def _keep_fresh(self) -> None:
        while self._refresh_at is not None:
            left = self._refresh_at - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)
                continue  # a refresh asked for in between has moved the moment
            try:
                await self.refresh()
            except Exception:
                # This task must outlive anything: without it values would age unseen.
                log.exception("secret_refresh_broke")
                self._refresh_at = self._clock.monotonic() + self._lifetime

    def _plan_refresh(self) -> float:
        ahead = self._lifetime * random.uniform(REFRESH_FROM, REFRESH_TO)  # noqa: S311  (jitter guards nothing)
        if self._failed_in_row:
            ahead = min(ahead, max(1.0, self._lifetime * FIRST_RETRY) * 2 ** min(self._failed_in_row - 1, 16))
        return self._clock.monotonic() + ahead

    async def _tell(self, changed: frozenset[str]) -> None:
        for callback in self._subscribers if changed else ():
            try:
                async with asyncio.timeout(SUBSCRIBER_TIMEOUT_SECONDS):
                    await callback(changed)
            except Exception:
                log.exception("secret_subscriber_failed", names=sorted(changed))


async def open_source(settings: Settings) -> SecretSource:
    """Return the source that the settings chose."""
    if not settings.use_secrets_manager:
        return EnvironmentSource(settings)
    return await (await asyncio.to_thread(_import_secrets_manager)).open(settings)


def _import_secrets_manager() -> "type[SecretsManagerSource]":
    # The AWS client takes 0.3 s to import: only who uses it pays, and not on the event loop.
    from email_gateway.secrets.secrets_manager import SecretsManagerSource  # noqa: PLC0415

    return SecretsManagerSource


def _known(name: str) -> KnownSecret:
    return next(known for known in SECRETS if known.name == name)


def _any_failed(answers: Answers) -> bool:
    return any(isinstance(answer, FetchFailed) for answer in answers.values())
