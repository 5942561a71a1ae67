"""What the dashboard is given by whoever mounts it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from email_gateway.dashboard.figures import Figures
from email_gateway.dashboard.key_figures import KeyFigures
from email_gateway.limits import Limits
from email_gateway.secrets.standing import SecretStatus
from email_gateway.store.database import Database
from email_gateway.vault.keyring import Keyring

ADMIN_KEY = "admin-api-key"


class Valued(Protocol):
    """A secret with its value, as `SecretsService.get` returns it."""

    @property
    def value(self) -> str: ...


class Secrets(Protocol):
    """The part of `SecretsService` that logins need, and the page of secrets, which reads no value."""

    def admin_key_matches(self, candidate: str) -> bool: ...
    def get(self, name: str) -> Valued: ...
    def status(self) -> Mapping[str, SecretStatus]: ...
    @property
    def can_change(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class DashboardContext:
    """What the pages read from; `has_inbox` shows the inbox in clear.

    `keeps_mail` says on every page that mail is kept where people expect it to be sent.
    `api_url` ends in /v1 and stands in the first steps of an empty gateway. With `requires_https` a
    login that came neither over https nor from this machine is refused. `limits` counts failed
    logins together with wrong admin keys of the API.
    """

    db: Database
    keyring: Keyring
    secrets: Secrets
    has_inbox: bool
    api_url: str
    keeps_mail: bool = False
    requires_https: bool = False
    limits: Limits = field(default_factory=Limits)
    figures: Figures = field(default_factory=Figures)
    key_figures: KeyFigures = field(default_factory=KeyFigures)
