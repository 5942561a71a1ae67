"""One process's part: it looks when there is something to look at, and writes down what it holds since."""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from datetime import timedelta

from email_gateway import __version__
from email_gateway.errors import DatabaseUnavailable, GatewayError, KeysNotFollowed, KeyUnavailable, Tampered
from email_gateway.fleet.admin_keys import settle_admin_keys
from email_gateway.fleet.watching import keep_figures
from email_gateway.flights import NextFlight
from email_gateway.observe import ROOT_ALERT, get_logger
from email_gateway.secrets import SecretName, SecretsService
from email_gateway.secrets.secret import FROM_ENVIRONMENT
from email_gateway.store.database import Database
from email_gateway.store.generations import Generation, Subject, list_generations
from email_gateway.store.instances import Identity, Standing, forget_instance, record_instance
from email_gateway.store.keys import list_roots, update_root_versions
from email_gateway.store.secret_versions import record_current
from email_gateway.vault.adoption import adopt
from email_gateway.vault.keyring import Keyring

log = get_logger(__name__)

# Others take a process for gone when it was silent for LIVE_FOR: three beats and a little.
BEAT_EVERY = timedelta(seconds=10)
LIVE_FOR = timedelta(seconds=35)
# How often the generation rows are compared by whoever hears nothing.
COMPARE_EVERY = timedelta(seconds=2)
RETRY_AFTER = timedelta(seconds=1)
LONGEST_RETRY = timedelta(seconds=60)
RECONSIDER_EVERY = timedelta(seconds=10)


class Fleet:
    """Follows the generations until closed. `look` may be called by whoever cannot wait for that."""

    def __init__(self, db: Database, secrets: SecretsService, keyring: Keyring, process: str) -> None:
        self.db = db
        self.secrets = secrets
        self.keyring = keyring
        self.identity = Identity(uuid.uuid4(), process, socket.gethostname(), os.getpid(), __version__)
        self._followed: dict[str, int] = dict.fromkeys(Subject, -1)
        self._recorded: dict[str, str] = {}
        self._active_root: bytes | None = None
        # Apart: the admin key that is revoked now must not wait for ten thousand keys that are wrapped.
        self._looks = {subject: NextFlight() for subject in Subject}
        self._wanted = {subject: asyncio.Event() for subject in Subject}
        self._saying = asyncio.Lock()
        self._retries = 0
        self._beat_at = self._reconsidered_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take a first look, and go on looking until `close`; the database may be away meanwhile."""
        self.secrets.subscribe(self._note_change)
        await self.look()
        looking = (self._keep_looking(subject) for subject in Subject)
        work = (self._listen(), *looking, keep_figures(self.db, self.keyring, LIVE_FOR))
        self._tasks = [asyncio.create_task(each) for each in work]

    async def close(self) -> None:
        """Stop looking, and let nobody wait for this process any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(GatewayError):
            await forget_instance(self.db, self.identity.instance)

    async def look(self) -> None:
        """Follow whatever changed before this call, and write down what this process holds then.

        What fails is logged and looked at again a second later: nothing that is loaded is dropped.
        """
        for subject in Subject:  # the secrets first: the root key comes from them
            await self._look(subject)

    async def say(self) -> None:
        """Write down that this process lives and what it holds; raises DatabaseUnavailable where that cannot be committed."""
        async with self._saying:  # what is said later is what is written later
            failures = {name: status["last_error"] for name, status in self.secrets.status().items()}
            standing = Standing(
                self.keyring.roots.ids,
                self._active_root,
                self._followed[Subject.SECRETS],
                self._followed[Subject.KEYS],
                self._versions(),
                {name: failure for name, failure in failures.items() if failure is not None},
            )
            await record_instance(self.db, self.identity, standing)
        self._beat_at = time.monotonic()

    def wake(self) -> None:
        """Have this process look soon, without waiting for it."""
        for wanted in self._wanted.values():
            wanted.set()

    async def reconsider_admin_keys(self) -> None:
        """Look for an admin or rotation key that this process has not heard of: in the database, then in AWS.

        AWS is asked at most once in ten seconds, however many wrong keys come.
        """
        if time.monotonic() >= self._reconsidered_at + RECONSIDER_EVERY.total_seconds():
            self._reconsidered_at = time.monotonic()
            await self.secrets.refresh()
        with contextlib.suppress(DatabaseUnavailable):
            await self._settle_versions()

    async def _look(self, subject: Subject) -> None:
        """One look at a time; who calls during one gets the next, shared."""

        async def run() -> None:
            self._wanted[subject].clear()
            try:
                await (self._look_at_secrets() if subject is Subject.SECRETS else self._look_at_keys())
            except DatabaseUnavailable as error:
                log.warning("fleet_not_followed", error=error)

        await self._looks[subject].join(run)

    async def _look_at_secrets(self) -> None:
        generation = (await list_generations(self.db))[Subject.SECRETS]
        if self._is_behind(generation):
            await self.secrets.refresh()
        await self._settle_versions()
        self._followed[Subject.SECRETS] = generation.value
        await self.say()

    async def _look_at_keys(self) -> None:
        generation = (await list_generations(self.db))[Subject.KEYS]
        is_settled = await self._follow_roots()
        if self._followed[Subject.KEYS] != generation.value:
            is_settled &= await self._follow_keys(generation.value)
        await self.say()
        self._retries = 0 if is_settled else self._retries + 1
        if not is_settled:
            wait = min(RETRY_AFTER * 2 ** min(self._retries - 1, 8), LONGEST_RETRY)
            asyncio.get_running_loop().call_later(wait.total_seconds(), self._wanted[Subject.KEYS].set)

    def _is_behind(self, generation: Generation) -> bool:
        """Tell whether the secrets at hand may be older than the last wish to read them again."""
        followed = self._followed[Subject.SECRETS]
        if followed >= 0:
            return followed != generation.value
        oldest = max((status["age_seconds"] for status in self.secrets.status().values()), default=0.0)
        return generation.age.total_seconds() <= oldest + 1.0

    async def _settle_versions(self) -> None:
        for name, version_id in self._versions().items():
            # Only what this process saw change: one whose cache is old must not bring an old version back.
            if self._recorded.get(name) != version_id:
                await record_current(self.db, name, version_id)
                self._recorded[name] = version_id
        await settle_admin_keys(self.db, self.secrets, self._recorded.get(SecretName.ADMIN_API_KEY))

    async def _follow_roots(self) -> bool:
        """Hold the active root, and adopt the one of the secrets when that is another; False when to try again."""
        roots, held = self.keyring.roots, self.keyring.roots.source.held()
        active = next((stored for stored in await list_roots(self.db) if stored.state == "active"), None)
        if active is None:
            ROOT_ALERT.set(1)
            log.error("no_active_root")
            return False
        try:
            await roots.obtain(active)
        except (KeyUnavailable, Tampered) as error:
            log.warning("active_root_out_of_reach", error=error)
        self._active_root = active.root_id if active.root_id in roots else None
        if active.root_id == held.root.root_id:
            versions = held.versions
            if versions.can_be_fetched:
                await update_root_versions(self.db, active.root_id, versions.key_version_id, versions.salt_version_id)
        elif self.secrets.can_change:
            await self._adopt()
        is_settled = self._active_root is not None
        ROOT_ALERT.set(0 if is_settled else 1)
        return is_settled

    async def _adopt(self) -> None:
        try:
            adoption = await adopt(self.db, self.keyring.roots)
        except DatabaseUnavailable as error:
            # Most often another process is at it, and holds the lock for longer than we wait.
            log.warning("root_not_adopted_yet", error=error)
            self._active_root = None
            return
        except GatewayError as error:
            # Nothing was changed, and what was readable is: but somebody must look.
            log.error("root_not_adopted", error=error)
            self._active_root = None
            return
        self._active_root = adoption.root_id
        if adoption.root_id != self.keyring.roots.source.held().root.root_id:
            # Secrets Manager says otherwise than our cache, which is the older of the two.
            await self.secrets.refresh()

    async def _follow_keys(self, generation: int) -> bool:
        """Take up data keys that came into use since; False when that has to be tried again."""
        try:
            await self.keyring.reload()
        except KeysNotFollowed as error:
            log.warning("keys_not_followed", error=error)
            return False
        self._followed[Subject.KEYS] = generation
        return True

    def _versions(self) -> dict[str, str]:
        """Return the VersionIds of the secrets at hand, by name; what the environment gave has none."""
        versions = {name: status["version_id"] for name, status in self.secrets.status().items()}
        return {name: version for name, version in versions.items() if version not in (None, FROM_ENVIRONMENT)}

    async def _note_change(self, _changed: frozenset[str]) -> None:
        self.wake()

    async def _listen(self) -> None:
        subjects = {subject.channel: subject for subject in Subject}
        async with contextlib.aclosing(self.db.listen(*subjects)) as told:
            async for channel in told:
                if channel is None:  # something may have been missed
                    self.wake()
                else:
                    self._wanted[subjects[channel]].set()

    async def _keep_looking(self, subject: Subject) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPARE_EVERY.total_seconds()):
                    await self._wanted[subject].wait()
            try:
                if self._wanted[subject].is_set() or self._is_beat_due() or await self._has_missed(subject):
                    await self._look(subject)
            except DatabaseUnavailable:
                continue  # the next comparison will do
            except Exception:
                # This task must outlive anything: without it nothing is followed.
                log.exception("look_failed")
                await asyncio.sleep(RETRY_AFTER.total_seconds())

    def _is_beat_due(self) -> bool:
        return time.monotonic() >= self._beat_at + BEAT_EVERY.total_seconds()

    async def _has_missed(self, subject: Subject) -> bool:
        return self._followed[subject] != (await list_generations(self.db))[subject].value
