"""Dashboard sessions and one-time login links: only hashes of their tokens are kept."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from email_gateway.store.database import Queries
from email_gateway.store.queries import load

SQL = load("sessions")

SESSION_LIFETIME = timedelta(hours=12)
LINK_LIFETIME = timedelta(minutes=10)
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """An operator who is logged in; `token` is what the cookie holds, `csrf` what her forms carry."""

    operator: str
    token: str = field(repr=False)
    csrf: str = field(repr=False)


async def make_login_link(db: Queries, operator: str) -> str:
    """Return a 256-bit token that logs `operator` in once, within ten minutes."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await db.execute(SQL.add_login_link, _digest(token), operator, LINK_LIFETIME)
    return token


async def redeem_login_link(db: Queries, token: str) -> str | None:
    """Use a link up and return its operator; None when it is unknown, used or expired."""
    row = await db.fetch_one(SQL.redeem_login_link, _digest(token))
    return row["operator"] if row else None


async def add_session(db: Queries, operator: str, admin_key: str) -> Session:
    """Open a session of twelve hours that ends when the admin key is no longer `admin_key`."""
    await db.execute(SQL.prune_sessions)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    csrf = _csrf(token)
    await db.execute(
        SQL.add_session, _digest(token), operator, _digest(csrf), _key_binding(token, admin_key), SESSION_LIFETIME
    )
    return Session(operator, token, csrf)


async def find_session(db: Queries, token: str, admin_key: str) -> Session | None:
    """Return the session of this token; None when it has ended or another admin key is in force."""
    row = await db.fetch_one(SQL.find_session, _digest(token))
    if row is None or not hmac.compare_digest(row["admin_key_hash"], _key_binding(token, admin_key)):
        return None
    csrf = _csrf(token)
    return Session(row["operator"], token, csrf) if hmac.compare_digest(row["csrf_hash"], _digest(csrf)) else None


async def end_session(db: Queries, token: str) -> None:
    """Forget the session of this token."""
    await db.execute(SQL.end_session, _digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _csrf(token: str) -> str:
    """Derive the CSRF token, so that every page can print it though only its hash is stored."""
    return hmac.new(token.encode(), b"email-gateway/dashboard/csrf/v1", hashlib.sha256).hexdigest()


def _key_binding(token: str, admin_key: str) -> bytes:
    """Hash the admin key under the session's token: a dump gives nothing to guess the key against."""
    return hmac.new(token.encode(), b"email-gateway/dashboard/key/v1\0" + admin_key.encode(), hashlib.sha256).digest()
