"""Who is calling: tenants by their API keys, operators by the admin key."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from email_gateway.api.calls import Call
from email_gateway.api.clients import client_address, is_allowed
from email_gateway.api.context import ApiContext
from email_gateway.api.routing import Access
from email_gateway.errors import Forbidden, GatewayError, RateLimited, Unauthorized
from email_gateway.flights import Flights
from email_gateway.observe import get_logger
from email_gateway.store.accounts import Account, find_account, get_generation, touch_api_key
from email_gateway.store.key_text import is_mistyped, is_shaped_like_key

log = get_logger(__name__)

CACHE_SECONDS = 5.0
GENERATION_POLL_SECONDS = 1.0
MAX_CACHED = 10_000
OPERATORS = (Access.ADMIN, Access.PROBE, Access.ROTATION)


@dataclass(slots=True)
class _Known:
    """A key that was right; after the monotonic time `until` it is looked up again."""

    account: Account
    until: float


class ApiKeys:
    """The API keys in use, looked up in the database and kept for five seconds at most.

    What is kept is found under the key's hash: no key stands in memory after its request. Keys
    that the database does not know are not kept; what is no key by its shape or its checksum never gets
    there. Ten keys a minute that nobody has, and their client has to wait.
    """

    def __init__(self, context: ApiContext) -> None:
        self._db = context.db
        self._limits = context.limits
        self._trusted_proxies = context.settings.trusted_proxies
        self._known: dict[bytes, _Known] = {}
        self._loads = Flights[bytes, Account | None]()
        self._generation: int | None = None
        self._touches: set[asyncio.Task[None]] = set()

    async def authenticate(self, call: Call) -> Account:
        """Return whom the request's key speaks for; raises Unauthorized without one, else Forbidden.

        Raises RateLimited, and asks nobody, for a client that has sent too many wrong ones. A key that
        was right here before is looked up all the same: many callers may share one address.
        """
        key = _api_key(call.headers)
        if not is_shaped_like_key(key):
            raise Forbidden("the API key is not valid")
        key_hash = hashlib.sha256(key).digest()
        known = self._known.get(key_hash)
        if known is not None and known.until > time.monotonic():
            return known.account
        if known is None and (wait := await self._limits.key_wait_seconds(self._client(call))):
            raise RateLimited("too many wrong API keys from this address", wait)
        # One with a wrong checksum counts as wrong like any other, and costs no query.
        account = None if is_mistyped(key) else await self._loads.join(key_hash, lambda: self._load(key_hash))
        if account is None:
            await self._limits.add_key_failure(self._client(call))
            raise Forbidden("the API key is not valid")
        return account

    async def watch(self) -> None:
        """Have all keys looked up again whenever the generation row says that one changed; runs until cancelled."""
        while True:
            with suppress(GatewayError):  # without the database the five seconds still hold
                self._compare(await get_generation(self._db))
            await asyncio.sleep(GENERATION_POLL_SECONDS)

    def _compare(self, generation: int) -> None:
        if generation != self._generation:
            for known in self._known.values():
                known.until = 0.0
            self._generation = generation

    def _client(self, call: Call) -> str:
        return client_address(call.scope, self._trusted_proxies)

    async def _load(self, key_hash: bytes) -> Account | None:
        # Counted from before the lookup: a key revoked during it is gone five seconds later, and looked up
        # again at once where that was noticed meanwhile.
        until, generation = time.monotonic() + CACHE_SECONDS, self._generation
        account = await find_account(self._db, key_hash)
        if account is None:
            self._known.pop(key_hash, None)
            return None
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[key_hash] = _Known(account, until if generation == self._generation else 0.0)
        if account.is_touch_due:
            # Beside the request: when a key was last used is not worth a caller's wait.
            task = asyncio.create_task(self._touch(account))
            self._touches.add(task)
            task.add_done_callback(self._touches.discard)
        return account

    async def _touch(self, account: Account) -> None:
        with suppress(GatewayError):
            await touch_api_key(self._db, account.tenant_id, account.api_key_id)


def check_account(call: Call, context: ApiContext, *, full_access: bool) -> None:
    """Raise Forbidden when the key may not be used from here, or for this."""
    account = call.account
    if account is None:
        raise Unauthorized("send an API key: Authorization: Bearer eg_...")
    if account.is_suspended:
        raise Forbidden("this account is suspended: ask whoever runs this gateway")
    if account.allowed_networks:
        client = client_address(call.scope, context.settings.trusted_proxies)
        if not is_allowed(client, account.allowed_networks):
            raise Forbidden("this API key may not be used from this network")
    if full_access and not account.has_full_access:
        raise Forbidden("this API key may only send")


def check_senders(call: Call, domains: Sequence[str]) -> None:
    """Raise Forbidden when the key is bound to one domain, and mail would be sent from another."""
    bound_to = call.account.sender_domain if call.account else None
    if bound_to is not None and any(domain != bound_to for domain in domains):
        raise Forbidden(f"this API key may only send from addresses at {bound_to}")


async def check_admin(call: Call, context: ApiContext, access: Access = Access.ADMIN) -> None:
    """Let only the admin key pass, or where the route says so the rotation function's key, or a staged one.

    Ten wrong ones a minute from one client, and it has to wait: meanwhile even the right key is not
    looked at, or guessing would go on. A key that is wrong here may be right elsewhere since a moment
    ago, so this process looks once before it refuses. With no admin key configured every key is wrong.
    """
    header = b"x-rotation-key" if access is Access.ROTATION and b"x-rotation-key" in call.headers else b"x-admin-key"
    candidate = call.headers.get(header, b"").decode("latin-1")
    call.actor = header.decode().removeprefix("x-")
    if not candidate:
        raise Unauthorized("send the admin key in x-admin-key")
    client = client_address(call.scope, context.settings.trusted_proxies)
    if wait := await context.limits.admin_wait_seconds(client):
        raise RateLimited("too many wrong admin keys from this address", wait)
    if _opens(candidate, context, access, header):
        return
    await context.fleet.reconsider_admin_keys()
    if not _opens(candidate, context, access, header):
        await context.limits.add_admin_failure(client)
        log.warning("admin_key_refused", route=call.route)
        raise Unauthorized("the admin key is not valid")


def _opens(candidate: str, context: ApiContext, access: Access, header: bytes) -> bool:
    secrets = context.secrets
    if header == b"x-rotation-key":
        return secrets.rotation_key_matches(candidate)
    # Both are asked, so that the time says nothing about which of them it is not.
    is_staged = secrets.staged_admin_key_matches(candidate)
    return secrets.admin_key_matches(candidate) or (access is Access.PROBE and is_staged)


def _api_key(headers: dict[bytes, bytes]) -> bytes:
    value = headers.get(b"authorization")
    if value is not None:
        scheme, _, key = value.partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            raise Unauthorized("send the API key as Authorization: Bearer eg_...")
        return key.strip()
    key = headers.get(b"x-api-key", b"")
    if not key:
        raise Unauthorized("send an API key: Authorization: Bearer eg_...")
    return key
