"""The driver's errors in our words."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from email_gateway.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, LockTimeout, SchemaMismatch

# SQLSTATE classes that pass by themselves: connection, transaction rollback, resources,
# operator intervention, system error; and two single states.
PASSING_CLASSES = ("08", "40", "53", "57", "58")
PASSING_STATES = ("25006",)  # read-only transaction: a standby
LOCK_TIMEOUT_STATE = "55P03"
MISSING_STATES = ("42P01", "42703", "42883", "3F000")  # table, column, function, schema
CREDENTIALS_CLASS = "28"  # invalid authorization: the password, or the user itself
NOT_A_URL = "the database's URL is none of PostgreSQL: postgresql://user:password@host:5432/database"


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours; their text is dropped, since DETAIL quotes values."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state in MISSING_STATES:
            raise SchemaMismatch(
                f"the database lacks something this release needs ({state}); run `email-gateway migrate`"
            ) from None
        if state == LOCK_TIMEOUT_STATE:
            raise LockTimeout("another transaction held a lock for too long") from None
        if state[:2] in PASSING_CLASSES or state in PASSING_STATES:
            raise DatabaseUnavailable(f"PostgreSQL cannot answer now ({state})", state) from None
        raise DatabaseRefused(state, getattr(error, "constraint_name", None)) from None
    except asyncpg.ClientConfigurationError:
        raise ConfigurationError(NOT_A_URL) from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, ssl.SSLError) as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached ({type(error).__name__})") from None


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Have an error of connecting say whose URL was used: a secret, a variable, or the embedded server."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"{error}; its URL is that of {source}", error.sqlstate) from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; its URL is that of {source}") from None


def refuses_credentials(refused: DatabaseRefused) -> bool:
    """Tell whether PostgreSQL refused the user or the password, which another URL may mend."""
    return refused.sqlstate.startswith(CREDENTIALS_CLASS)
