"""One fetch of one secret, a round of all, and the rounds of the start."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta

from email_gateway.errors import ConfigurationError, SecretUnavailable
from email_gateway.observe import get_logger
from email_gateway.secrets.clock import Clock
from email_gateway.secrets.failures import INVALID_VALUE_CODE, TIMED_OUT_CODE, Failure, FetchFailed, advise
from email_gateway.secrets.secret import FROM_ENVIRONMENT, SECRETS, KnownSecret, Secret, SecretName
from email_gateway.secrets.source import CURRENT, SecretSource
from email_gateway.secrets.validation import strip_secret
from email_gateway.settings import Settings

log = get_logger(__name__)

Answer = Secret | FetchFailed | None  # None: optional, and nowhere
Answers = Mapping[SecretName, Answer]
Held = Mapping[str, Secret]

START_PAUSES_SECONDS = (0.25, 0.5, 1.0, 2.0)


class Fetcher:
    """Asks the source, validates what comes, and falls back for optional secrets where that is allowed.

    `held` is what serves at the moment: it decides what counts as gone and what as never there.
    """

    def __init__(self, source: SecretSource, settings: Settings, clock: Clock) -> None:
        self.source = source
        self._settings = settings
        self._clock = clock

    async def fetch(self, known: KnownSecret, held: Held) -> Answer:
        """Return the secret's current value, validated, or why there is none."""
        answer = await self.fetch_version(known, None)
        if isinstance(answer, FetchFailed) and answer.is_absent and not known.is_critical:
            # One that was there and is gone was deleted by somebody: its last good value serves.
            now = held.get(known.name)
            if now is None or now.version_id == FROM_ENVIRONMENT:
                return self._fall_back(known)
        return answer

    async def fetch_version(
        self, known: KnownSecret, version_id: str | None, stage: str = CURRENT, *, is_former: bool = False
    ) -> Secret | FetchFailed:
        """Return one version of the secret, validated; None is the one with the staging label.

        One that has served is `is_former`: mail may be sealed under it, so its form is not judged anew.
        """
        try:
            fetched = await self.source.fetch(known.name, version_id, stage)
            is_judged = self.source.can_change and not is_former
            value = known.read_stored(fetched.text) if is_judged else known.read(strip_secret(fetched.text))
        except FetchFailed as failed:
            return failed
        except ValueError as wrong:
            return FetchFailed(Failure.MALFORMED, INVALID_VALUE_CODE, problem=str(wrong))
        return Secret(known.name, value, fetched.version_id, self._clock.now())

    def _fall_back(self, known: KnownSecret) -> Secret | None:
        text = getattr(self._settings, known.setting) if known.setting else None
        return Secret(known.name, text, FROM_ENVIRONMENT, self._clock.now()) if text else None

    async def fetch_all(self, held: Held, wanted: Iterable[KnownSecret] = SECRETS) -> Answers:
        """Fetch these secrets at the same time."""
        wanted = list(wanted)
        answers = await asyncio.gather(*(self.fetch(known, held) for known in wanted))
        return reject_twins(dict(zip((known.name for known in wanted), answers, strict=True)), held)

    async def fetch_until_complete(self, patience: timedelta) -> Answers:
        """Fetch every secret, repeating what was throttled or not answered, for as long as `patience`.

        Raises ConfigurationError at once for what waiting does not mend, SecretUnavailable at the end.
        """
        deadline = self._clock.monotonic() + patience.total_seconds()
        answers: Answers = {}
        waiting: list[KnownSecret] = list(SECRETS)
        pauses = iter(START_PAUSES_SECONDS)
        while waiting:
            new = await self._fetch_within(waiting, deadline - self._clock.monotonic(), answers)
            answers = reject_twins({**answers, **new}, {})
            failed = {name: answer for name, answer in answers.items() if isinstance(answer, FetchFailed)}
            lasting = {name: failure for name, failure in failed.items() if not failure.failure.is_passing}
            if lasting:
                raise ConfigurationError(self._explain(lasting))
            pause = next(pauses, START_PAUSES_SECONDS[-1])
            if failed and self._clock.monotonic() + pause >= deadline:
                raise SecretUnavailable(self._explain(failed))
            waiting = [known for known in SECRETS if known.name in failed]
            if waiting:
                log.warning("secrets_not_yet_fetched", names=list(failed), failure=next(iter(failed.values())).failure)
                await self._clock.sleep(pause)
        return answers

    async def _fetch_within(self, wanted: list[KnownSecret], seconds: float, before: Answers) -> Answers:
        try:
            async with asyncio.timeout(seconds):
                return await self.fetch_all({}, wanted)
        except TimeoutError:
            # What the round before said tells an operator more than that this one was cut short.
            cut_short = FetchFailed(Failure.UNAVAILABLE, TIMED_OUT_CODE)
            return {known.name: before.get(known.name, cut_short) for known in wanted}

    def _explain(self, failed: Mapping[SecretName, FetchFailed]) -> str:
        """Return one line for all secrets with the same failure: its cause is likely one."""
        groups: dict[tuple[str, str], list[str]] = {}
        for name, failure in failed.items():
            groups.setdefault((failure.code, advise(failure)), []).append(self.source.full_name(name))
        lines = (f"  - {', '.join(names)}: {code}. {advice}" for (code, advice), names in groups.items())
        return "\n".join([f"Failed to fetch secrets from {self.source.title}:", *lines])


def differ(held: Secret | None, answer: Secret | None) -> bool:
    """Tell whether the answer would change what is held; a version whose value changed counts too."""
    if held is None or answer is None:
        return held is not answer
    return (held.version_id, held.value) != (answer.version_id, answer.value)


def reject_twins(answers: Answers, held: Held) -> Answers:
    """Refuse an encryption key and salt that are the same text: one of them was stored under both names."""
    twins = {name: answers.get(name) for name in (SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT)}
    current = {name: answer if isinstance(answer, Secret) else held.get(name) for name, answer in twins.items()}
    values = {secret.value for secret in current.values() if secret}
    if None in current.values() or len(values) > 1:
        return answers
    same = FetchFailed(Failure.MALFORMED, INVALID_VALUE_CODE, problem="must differ between encryption key and salt")
    new = {
        name: same for name, answer in twins.items() if isinstance(answer, Secret) and differ(held.get(name), answer)
    }
    return {**answers, **new}
