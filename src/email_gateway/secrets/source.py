"""Where secrets come from: what a source does, and the environment as one."""

from dataclasses import dataclass, field
from typing import Protocol

from email_gateway.secrets.failures import ABSENT_CODE, Failure, FetchFailed
from email_gateway.secrets.secret import FROM_ENVIRONMENT, SECRETS
from email_gateway.settings import Settings

CURRENT = "AWSCURRENT"
PENDING = "AWSPENDING"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A text as the source holds it, not validated yet."""

    text: object = field(repr=False)
    version_id: str


class SecretSource(Protocol):
    """Answers for one secret at a time; many fetches may run at once.

    `fetch` returns one version, or without one what carries the staging label `stage`. It raises
    FetchFailed and nothing else, and always ends within seconds.
    """

    @property
    def title(self) -> str: ...
    @property
    def can_change(self) -> bool: ...
    def full_name(self, name: str) -> str: ...
    async def fetch(self, name: str, version_id: str | None = None, stage: str = CURRENT) -> Fetched: ...
    async def close(self) -> None: ...


class EnvironmentSource:
    """The settings as a source: for development, and for what a parent process handed over."""

    title = "the environment"
    can_change = False

    def __init__(self, settings: Settings) -> None:
        self._texts: dict[str, str | None] = {
            known.name: getattr(settings, known.setting) for known in SECRETS if known.setting
        }

    @staticmethod
    def variable_of(name: str) -> str:
        """Return the variable that holds a secret outside Secrets Manager."""
        return name.upper().replace("-", "_")

    def full_name(self, name: str) -> str:
        """Return the variable's name."""
        return self.variable_of(name)

    async def fetch(self, name: str, version_id: str | None = None, stage: str = CURRENT) -> Fetched:
        text = self._texts.get(name)
        if text is None or version_id not in (None, FROM_ENVIRONMENT) or stage != CURRENT:
            raise FetchFailed(Failure.NOT_FOUND, ABSENT_CODE)
        return Fetched(text, FROM_ENVIRONMENT)

    async def close(self) -> None:
        """Do nothing: there is nothing open."""
