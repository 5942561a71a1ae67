"""A secret and the list of those the gateway knows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NoReturn

from email_gateway.secrets.validation import read_database_url, refuse_disguise, strip_secret
from email_gateway.settings import check_smtp_url, parse_admin_key, parse_key, parse_redis_url

FROM_ENVIRONMENT = "environment"  # stands as the VersionId of what has none


class SecretName(StrEnum):
    """The names after the prefix, as they stand in Secrets Manager."""

    ENCRYPTION_KEY = "encryption-key"
    ENCRYPTION_SALT = "encryption-salt"
    ADMIN_API_KEY = "admin-api-key"
    DATABASE_URL = "database-url"
    SMTP_URL = "smtp-url"
    REDIS_URL = "redis-url"
    ROTATION_KEY = "rotation-key"


# How old a value may become; docs/secrets.md says so too.
MOST_AGE = {
    SecretName.ENCRYPTION_KEY: timedelta(days=90),
    SecretName.ENCRYPTION_SALT: timedelta(days=90),
    SecretName.ADMIN_API_KEY: timedelta(days=60),
}


@dataclass(frozen=True, slots=True, eq=False)
class Secret:
    """One value and where it stood. Neither printed, nor compared, nor pickled by accident.

    `version_id` is Secrets Manager's VersionId, or "environment".
    """

    name: str
    value: str = field(repr=False)
    version_id: str
    fetched_at: datetime

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would carry the value to a file or another process."""
        raise TypeError("a secret is not pickled; hand it over as text through a pipe")


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """What is expected of one secret.

    `setting` is the field of Settings that holds it outside Secrets Manager, if any. `read` turns
    the stored text into the value, or raises a ValueError that says what is wrong and quotes nothing.
    """

    name: SecretName
    is_critical: bool
    setting: str | None
    read: Callable[[str], str]

    def read_stored(self, text: object) -> str:
        """Return the value of a text that is, or is to be, stored; a wrapping and what cannot be a key are refused.

        Raises a ValueError that quotes nothing. What the environment holds in development may be
        weak, and a version that has served before is taken as it was: those are only `read`.
        """
        stripped = strip_secret(text)
        refuse_disguise(self.name, stripped)
        return self.read(stripped)


SECRETS = (
    KnownSecret(SecretName.ENCRYPTION_KEY, True, "encryption_key", parse_key),
    KnownSecret(SecretName.ENCRYPTION_SALT, True, "encryption_salt", parse_key),
    KnownSecret(SecretName.ADMIN_API_KEY, True, "admin_api_key", parse_admin_key),
    KnownSecret(SecretName.DATABASE_URL, False, "database_url", read_database_url),
    KnownSecret(SecretName.SMTP_URL, False, "smtp_url", check_smtp_url),
    KnownSecret(SecretName.REDIS_URL, False, "redis_url", parse_redis_url),
    # The rotation function's key: it has no place in the environment.
    KnownSecret(SecretName.ROTATION_KEY, False, None, parse_admin_key),
)
