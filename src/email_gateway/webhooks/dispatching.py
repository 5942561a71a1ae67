"""Which endpoint is sent to now: one task for each that something is due for, so that none waits for another."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from email_gateway.errors import DatabaseUnavailable, GatewayError, KeyUnavailable, Tampered
from email_gateway.mail.content import Content
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.webhooks import Endpoint, Network, parse_endpoint, sign
from email_gateway.observe import WEBHOOKS, get_logger
from email_gateway.store.database import Database
from email_gateway.store.messages import shown_value
from email_gateway.store.webhook_deliveries import (
    ClaimedWebhook,
    DueDelivery,
    Sent,
    claim_webhooks,
    finish_deliveries,
    list_due,
    release_webhook,
)
from email_gateway.vault.keyring import Keyring
from email_gateway.webhooks.payloads import make_payload
from email_gateway.webhooks.posting import RESULTS, Answer, Poster

log = get_logger(__name__)

GIVE_UP_AFTER = timedelta(days=3)
DISABLE_AFTER = timedelta(days=5)
# How long after the first, second, ... attempt the next one follows; the last is repeated.
RETRY_AFTER = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200)
)
JITTER = 0.2
# An endpoint that fails is asked with one delivery at a time, after a pause that doubles.
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)

ENDPOINTS_AT_A_TIME = 50
FAILING_AT_A_TIME = 25  # however many hang, the others have room
DELIVERIES_AT_A_TIME = 10  # to one endpoint
BATCH = 50
ENOUGH_FAILURES = 3  # in a batch, and the rest of it waits
# Longer than one round of the slowest answers, since after ENOUGH_FAILURES no other is begun.
LEASE = timedelta(seconds=30)
POLL_SECONDS = 0.25
# How long what is under way may take once the worker ends.
GRACE_SECONDS = 5.0

for word in RESULTS:
    WEBHOOKS.labels(result=word)  # so that each is there from the start, at zero

_CONTENT = msgspec.msgpack.Decoder(Content)


@dataclass(frozen=True, slots=True)
class _Opened:
    """An endpoint and the secrets that sign for it, the newest first."""

    endpoint: Endpoint
    secrets: tuple[str, ...] = field(repr=False)


class Dispatcher:
    """Sends what is due, as one of any number of workers."""

    def __init__(
        self, db: Database, keyring: Keyring, networks: Sequence[Network], poster: Poster | None = None
    ) -> None:
        self._db = db
        self._keyring = keyring
        self._networks = tuple(networks)
        self._poster = poster or Poster(networks)
        self._serving: dict[asyncio.Task[None], ClaimedWebhook] = {}
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled; then what is under way gets a moment, and the rest is left to other workers."""
        try:
            while True:
                is_busy = await self._claim()
                if not is_busy:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._freed.wait()
                self._freed.clear()
        finally:
            await self._end()

    async def _claim(self) -> bool:
        """Begin to serve endpoints that something is due for; return whether there were any."""
        before = len(self._serving)
        try:
            for are_failing in (False, True):
                failing = sum(webhook.failures > 0 for webhook in self._serving.values())
                room = ENDPOINTS_AT_A_TIME - len(self._serving)
                room = min(room, FAILING_AT_A_TIME - failing) if are_failing else room
                if room > 0:
                    self._begin(await claim_webhooks(self._db, limit=room, lease_for=LEASE, are_failing=are_failing))
        except DatabaseUnavailable:
            pass  # the next poll will do
        return len(self._serving) > before

    def _begin(self, claimed: Sequence[ClaimedWebhook]) -> None:
        for webhook in claimed:
            task = asyncio.create_task(self._serve(webhook), name="webhook")
            self._serving[task] = webhook
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._serving[task]
        self._freed.set()

    async def _end(self) -> None:
        if self._serving:
            await asyncio.wait(self._serving, timeout=GRACE_SECONDS)
        unfinished = dict(self._serving)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for webhook in unfinished.values():
            with suppress(GatewayError):  # the lease runs out by itself
                await release_webhook(self._db, webhook)
        self._poster.close()

    async def _serve(self, webhook: ClaimedWebhook) -> None:
        try:
            await self._send_batch(webhook)
        except DatabaseUnavailable as error:
            # The lease runs out, and what was sent since is sent again: at least once, never less.
            log.warning("webhook_put_off", webhook_id=webhook.webhook_id, error=error)
        except Exception:
            # One endpoint must not stop the others.
            log.exception("webhook_failed", webhook_id=webhook.webhook_id)

    async def _send_batch(self, webhook: ClaimedWebhook) -> None:
        try:
            opened = await self._open(webhook)
        except (KeyUnavailable, Tampered, InvalidValue) as error:
            log.error("webhook_unreadable", webhook_id=webhook.webhook_id, error=type(error).__name__)
            await self._finish(webhook, [])
            return
        due = await list_due(self._db, webhook, 1 if webhook.failures else BATCH)
        if not due:
            await release_webhook(self._db, webhook)
            return
        listed_at = time.monotonic()
        line = asyncio.Semaphore(DELIVERIES_AT_A_TIME)
        failed = 0

        async def send(one: DueDelivery) -> Sent | None:
            nonlocal failed
            async with line:
                if failed >= ENOUGH_FAILURES:
                    return None
                sent = await self._send(webhook, opened, one, timedelta(seconds=time.monotonic() - listed_at))
                failed += sent.state != "delivered"
                return sent

        sent = await asyncio.gather(*(send(one) for one in due))
        await self._finish(webhook, [one for one in sent if one is not None])

    async def _send(self, webhook: ClaimedWebhook, opened: _Opened, due: DueDelivery, elapsed: timedelta) -> Sent:
        began = time.monotonic()
        try:
            body = make_payload(due, *await self._open_personal(webhook, due))
        except (KeyUnavailable, Tampered) as error:
            log.error("webhook_unreadable", webhook_id=webhook.webhook_id, error=type(error).__name__)
            answer = Answer("unreadable")
        else:
            # The database's clock, as everywhere: receivers refuse what is signed too early or too late.
            headers = sign(body, str(due.delivery_id), due.now + elapsed, opened.secrets)
            answer = await self._poster.post(opened.endpoint, headers, body)
        WEBHOOKS.labels(result=answer.result).inc()
        return Sent(
            due,
            *_next(due, answer),
            result=answer.result,
            status=answer.status,
            milliseconds=round((time.monotonic() - began) * 1000),
            sealed_answer=await self._seal(webhook, due, answer.beginning),
        )

    async def _finish(self, webhook: ClaimedWebhook, sent: Sequence[Sent]) -> None:
        is_held, is_disabled = await finish_deliveries(
            self._db,
            webhook,
            sent,
            is_success=any(one.state == "delivered" for one in sent),
            wait=min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(webhook.failures, 10)),
            disable_after=DISABLE_AFTER,
        )
        if not is_held:
            log.warning("webhook_claim_lost", webhook_id=webhook.webhook_id, deliveries=len(sent))
        if is_disabled:
            log.error("webhook_disabled", webhook_id=webhook.webhook_id)

    async def _open(self, webhook: ClaimedWebhook) -> _Opened:
        async def opened(field: str, sealed: bytes) -> str:
            return (await self._keyring.open(webhook.tenant_id, field, webhook.webhook_id, sealed)).decode()

        secrets = [await opened("webhook.secret", webhook.sealed_secret)]
        if webhook.sealed_old_secret is not None:
            secrets.append(await opened("webhook.old_secret", webhook.sealed_old_secret))
        # Read again by today's rules: networks may have been taken from the settings since it was made.
        endpoint = parse_endpoint(await opened("webhook.endpoint", webhook.sealed_endpoint), self._networks)
        return _Opened(endpoint, tuple(secrets))

    async def _open_personal(self, webhook: ClaimedWebhook, due: DueDelivery) -> tuple[Content | None, str | None]:
        """Return content and reply as far as the webhook asked for them and they are still there."""
        content, reply, tenant_id = None, None, webhook.tenant_id
        if due.sealed_content is not None or due.sealed_summary is not None:
            shown = shown_value(due.message_id, due.sealed_content, due.sealed_summary)
            content = _CONTENT.decode(await self._keyring.open(tenant_id, *shown))
        if due.sealed_reply is not None and due.event_id is not None:
            opened = await self._keyring.open(tenant_id, "event.reply", due.event_id, due.sealed_reply)
            reply = opened.decode("utf-8", "replace")
        return content, reply

    async def _seal(self, webhook: ClaimedWebhook, due: DueDelivery, beginning: bytes) -> bytes | None:
        if not beginning:
            return None
        keys = await self._keyring.tenant(webhook.tenant_id)
        return keys.seal("webhook_delivery.answer", due.delivery_id, beginning)


def _next(due: DueDelivery, answer: Answer) -> tuple[str, timedelta | None]:
    """Return the state after an attempt, and the time until the next one where there is one."""
    if answer.is_success:
        return "delivered", None
    delay = RETRY_AFTER[min(due.attempts, len(RETRY_AFTER) - 1)]
    delay *= 1 + random.uniform(-JITTER, JITTER)  # noqa: S311 - spreads load, guards nothing
    if due.now - due.created_at + delay > GIVE_UP_AFTER:
        return "failed", None
    return "pending", delay
