"""Tokens instead of a password where RDS is entered by IAM: signed here with the role's credentials, one for each login.

A token is good for 15 minutes, and only for logging in: connections outlive it.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import boto3

from email_gateway.errors import ConfigurationError, DatabaseUnavailable
from email_gateway.secrets.secrets_manager import classify
from email_gateway.secrets.threads import call_in_thread
from email_gateway.settings import Settings, is_verified

if TYPE_CHECKING:
    from botocore.client import BaseClient

POSTGRESQL_PORT = 5432
UNFIT = (
    "DATABASE_IAM_AUTH needs a database URL with a user, one host and sslmode=verify-full: whoever else got the token"
    " could log in with it"
)


class RdsTokens:
    """Signs a token for a URL; nothing is sent but what renewing the role's credentials takes."""

    def __init__(self, settings: Settings) -> None:
        self._region = settings.aws_region
        self._making = threading.Lock()
        self._client: BaseClient | None = None

    async def __call__(self, url: str) -> str:
        """Return a fresh token for the login that this URL names.

        Raises ConfigurationError for a URL whose server is not verified, DatabaseUnavailable without credentials.
        """
        login = _read_login(url)
        return await call_in_thread(lambda: self._sign(login))

    def _sign(self, login: dict[str, Any]) -> str:
        try:
            client: Any = self._get_client()
            return str(client.generate_db_auth_token(**login))
        except Exception as error:  # noqa: BLE001  (sources of credentials raise anything)
            code = classify(error).code
        # Outside of the handler, or the original would hang on as the context.
        raise DatabaseUnavailable(
            f"no token for PostgreSQL can be signed ({code}): give this process the role that may rds-db:connect"
        )

    def _get_client(self) -> "BaseClient":
        with self._making:  # connections are opened side by side, and making a client takes a while
            if self._client is None:
                make: Any = boto3.session.Session(region_name=self._region).client
                self._client = make("rds")
            return self._client


def _read_login(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if not (is_verified(url) and parts.hostname and parts.username) or "," in parts.netloc:
        raise ConfigurationError(UNFIT)
    return {
        "DBHostname": parts.hostname,
        "Port": parts.port or POSTGRESQL_PORT,
        "DBUsername": unquote(parts.username),
    }
