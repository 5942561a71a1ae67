"""A fleet, its database and its secrets, as a history of accidents finds them: real code, real PostgreSQL, moto.

Every process is a SecretsService, a Keyring and a Fleet that looks when the history says so. What
stands between it and Secrets Manager can be cut.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID

from email_gateway.errors import Conflict, GatewayError, KeyUnavailable, WrongRootKey
from email_gateway.fleet import Fleet
from email_gateway.secrets import SecretsService
from email_gateway.secrets.failures import Failure, FetchFailed
from email_gateway.secrets.secrets_manager import SecretsManagerSource
from email_gateway.secrets.source import CURRENT, Fetched
from email_gateway.settings import Settings
from email_gateway.store import keys as store
from email_gateway.store.database import Database
from email_gateway.vault.adoption import rescue, stage, verify
from email_gateway.vault.data_keys import key_id_of
from email_gateway.vault.keyring import Keyring
from email_gateway.vault.retirement import retire
from email_gateway.vault.root_source import SecretsRoots
from email_gateway.vault.roots import derive_root
from tests.moto_server import REGION, settle_current
from tests.secrets.fake_clock import FakeClock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

FIELD = "message.content"
PLAINTEXT = b"what must open for ever"
EVERYTHING = "TRUNCATE crypto_root, crypto_key, crypto_key_wrap, crypto_instance, secret_version, audit, tenant CASCADE"


class Line:
    """The way to Secrets Manager: whole, or cut."""

    can_change = True

    def __init__(self, source: SecretsManagerSource) -> None:
        self._source = source
        self.title = source.title
        self.is_cut = False

    def full_name(self, name: str) -> str:
        return self._source.full_name(name)

    async def fetch(self, name: str, version_id: str | None = None, stage: str = CURRENT) -> Fetched:
        if self.is_cut:
            raise FetchFailed(Failure.UNAVAILABLE, "EndpointConnectionError")
        return await self._source.fetch(name, version_id, stage)

    async def close(self) -> None:
        """Leave the source open: the next process uses it too."""


@dataclass(frozen=True)
class Value:
    """A sealed value, and whose it is."""

    tenant_id: UUID
    row_id: UUID
    sealed: bytes


@dataclass(eq=False)
class Process:
    """One process of the fleet; `opened` are the data keys it has had in its hands."""

    line: Line
    secrets: SecretsService
    keyring: Keyring
    fleet: Fleet
    opened: set[bytes] = field(default_factory=set)


class World:
    """Everything a history acts on. Its verbs are what operators, AWS and accidents do."""

    def __init__(
        self, db: Database, client: "SecretsManagerClient", source: SecretsManagerSource, settings: Settings
    ) -> None:
        self.db = db
        self.client = client
        self.processes: list[Process] = []
        self.values: list[Value] = []
        self.pairs_tried: set[tuple[str, str]] = set()
        self.pending: tuple[str, str] | None = None  # the version under rotation, and how far it has come
        self._source = source
        self._settings = settings
        self._numbers = itertools.count(1)

    async def begin(self, key: str, salt: str) -> None:
        """Empty everything, store the first secrets, and start the first process."""
        await self.db.execute(EVERYTHING)
        await self.db.execute("UPDATE generation SET value = 0, asked_at = NULL, changed_at = now() - interval '1 day'")
        self._put("admin-api-key", "an-admin-key-for-histories-of-forty-chars")
        self.put(key, salt)
        await self.start()

    async def end(self) -> None:
        for process in list(self.processes):
            await self.kill(process)

    # Operators -------------------------------------------------------------------------------

    def put(self, key: str | None = None, salt: str | None = None) -> None:
        """Change a secret, or both one after the other; a value may be an old one."""
        if key is not None:
            self._put("encryption-key", key)
        if salt is not None:
            self._put("encryption-salt", salt)
        if key is not None:
            self.pending = None  # update-secret abandons a rotation (AWS user guide)
        self._note_pair()

    def roll_back(self, name: str) -> None:
        """Move AWSCURRENT back to the version before, by its label."""
        stages = self._stages(name)
        previous = next((version for version, labels in stages.items() if "AWSPREVIOUS" in labels), None)
        if previous is not None and self.text(name, previous) != self._current_text(self._other(name)):
            self._promote(name, previous)
            self._note_pair()

    async def retire_roots(self, process: Process) -> None:
        """Let a week pass, and retire what may go; a refusal is an answer."""
        await self.db.execute("UPDATE crypto_root SET retiring_at = retiring_at - interval '8 days'")
        # Refused while a process lacks the active root, or this one cannot reach it.
        with contextlib.suppress(Conflict, KeyUnavailable):
            await retire(self.db, process.keyring.roots, actor="history", progress=lambda _: None)

    # The rotation function, step by step; a history may stop between any two ------------------

    def create_pending(self, value: str) -> None:
        """createSecret."""
        self.client.put_secret_value(
            SecretId=self._source.full_name("encryption-key"),
            ClientRequestToken=(token := str(uuid4())),
            SecretString=value,
            VersionStages=["AWSPENDING"],
        )
        self.pending = (token, "created")

    async def stage_pending(self, process: Process) -> None:
        """setSecret; refused while another pending root is young, unreachable AWS stops it."""
        assert self.pending is not None
        try:
            await stage(self.db, process.keyring.roots, self.pending[0])
        except (Conflict, GatewayError):
            return
        self.pending = (self.pending[0], "staged")

    async def verify_pending(self, process: Process) -> None:
        """testSecret."""
        assert self.pending is not None
        roots = [root for root in await store.list_roots(self.db) if root.key_version_id == self.pending[0]]
        if not roots:
            return
        try:
            await verify(self.db, process.keyring.roots, roots[-1].root_id)
        except GatewayError:
            return
        self.pending = (self.pending[0], "verified")

    def promote_pending(self) -> None:
        """finishSecret, without what follows it."""
        assert self.pending is not None
        if self.text("encryption-key", self.pending[0]) != self._current_text("encryption-salt"):
            self._promote("encryption-key", self.pending[0])
            self._note_pair()
        self.pending = None

    # Processes -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start a process; where it rightly refuses, rescue the database with what is in the safe and try again."""
        line = Line(self._source)
        secrets = await SecretsService.start(self._settings, source=line, clock=FakeClock())
        source = SecretsRoots(secrets)
        try:
            keyring = await Keyring.start(self.db, source)
        except WrongRootKey:
            await self._rescue(source)
            keyring = await Keyring.start(self.db, source)
        fleet = Fleet(self.db, secrets, keyring, "history")
        process = Process(line, secrets, keyring, fleet)
        await fleet.look()
        self.processes.append(process)

    async def _rescue(self, source: SecretsRoots) -> None:
        """The active root is out of reach only where AWS has pruned its versions: the safe has its values."""
        (active,) = [root for root in await store.list_roots(self.db) if root.state == "active"]
        versions = {"encryption-key": active.key_version_id, "encryption-salt": active.salt_version_id}
        gone = [name for name, version in versions.items() if version not in self._stages(name)]
        assert gone, "a start was refused though every version of the active root can be fetched"
        roots = (derive_root(key, salt) for key, salt in self.pairs_tried)
        old = next(root for root in roots if root.root_id == active.root_id)
        await rescue(self.db, source, old)

    async def kill(self, process: Process) -> None:
        """End a process at once; its row stays, as after kill -9."""
        self.processes.remove(process)
        await process.secrets.close()

    async def refresh(self, process: Process) -> None:
        """Its cache ends: it reads its secrets and looks."""
        await process.secrets.refresh()
        await process.fleet.look()

    async def make_value(self, process: Process) -> None:
        """A new tenant's first message, so that data keys are made."""
        tenant_id = uuid4()
        await self.db.execute("INSERT INTO tenant (tenant_id, name) VALUES ($1::uuid, $1::uuid::text)", tenant_id)
        await self._seal(process, tenant_id)

    async def renew_keys(self, process: Process) -> None:
        """Give the youngest tenant a new field key, and seal a value with it."""
        if self.values:
            await self._seal(process, self.values[-1].tenant_id, is_renewing=True)

    async def _seal(self, process: Process, tenant_id: UUID, *, is_renewing: bool = False) -> None:
        try:
            if is_renewing:
                await process.keyring.renew_field_key(tenant_id, actor="history")
            keys = await process.keyring.tenant(tenant_id)
        except KeyUnavailable:
            assert process.line.is_cut, "a process that reaches AWS could not make a data key"
            return
        row_id = uuid4()
        value = Value(tenant_id, row_id, keys.seal(FIELD, row_id, PLAINTEXT))
        process.opened.add(key_id_of(value.sealed))
        self.values.append(value)

    # AWS -------------------------------------------------------------------------------------

    async def let_a_day_pass(self) -> None:
        """Every process that reaches AWS has refreshed many times; then versions without a label are pruned.

        AWS prunes only beyond a hundred versions and never within a day; moto never does.
        """
        for process in self.processes:
            await self.refresh(process)
        secrets = get_backend("secretsmanager")[DEFAULT_ACCOUNT_ID][REGION].secrets
        for name in ("encryption-key", "encryption-salt"):
            versions = secrets[self._source.full_name(name)].versions
            for version in [version for version, each in versions.items() if not each["version_stages"]]:
                del versions[version]

    # What must hold --------------------------------------------------------------------------

    async def check(self) -> None:
        """Every sealed value opens on every process that reaches AWS, and on those that already held its key."""
        for process in self.processes:
            for value in self.values:
                key_id = key_id_of(value.sealed)
                if process.line.is_cut and key_id not in process.opened:
                    continue
                opened = await process.keyring.open(value.tenant_id, FIELD, value.row_id, value.sealed)
                assert opened == PLAINTEXT
                process.opened.add(key_id)

    # Secrets Manager's API -------------------------------------------------------------------

    def text(self, name: str, version_id: str) -> str:
        return self.client.get_secret_value(SecretId=self._source.full_name(name), VersionId=version_id)["SecretString"]

    def _current_text(self, name: str) -> str:
        return self.client.get_secret_value(SecretId=self._source.full_name(name), VersionStage="AWSCURRENT")[
            "SecretString"
        ]

    def _other(self, name: str) -> str:
        return "encryption-salt" if name == "encryption-key" else "encryption-key"

    def _note_pair(self) -> None:
        self.pairs_tried.add((self._current_text("encryption-key"), self._current_text("encryption-salt")))

    def _put(self, name: str, value: str) -> None:
        full_name = self._source.full_name(name)
        try:
            self.client.put_secret_value(SecretId=full_name, SecretString=value)
        except self.client.exceptions.ResourceNotFoundException:
            self.client.create_secret(Name=full_name, SecretString=value)

    def _promote(self, name: str, version_id: str) -> None:
        current = next(version for version, labels in self._stages(name).items() if "AWSCURRENT" in labels)
        if version_id != current:
            self.client.update_secret_version_stage(
                SecretId=self._source.full_name(name),
                VersionStage="AWSCURRENT",
                MoveToVersionId=version_id,
                RemoveFromVersionId=current,
            )
            settle_current(self._source.full_name(name))

    def _stages(self, name: str) -> Mapping[str, list[str]]:
        return self.client.describe_secret(SecretId=self._source.full_name(name))["VersionIdsToStages"]


async def open_world(url: str, settings: Settings, client: "SecretsManagerClient") -> World:
    """Connect to the database and to Secrets Manager."""
    source = await SecretsManagerSource.open(settings)
    return World(await Database.connect(url, pool_size=4), client, source, settings)


def run_with(runner: asyncio.Runner, work: object) -> None:
    """Run a coroutine on the loop that the world's connections belong to."""
    runner.run(work)  # type: ignore[arg-type]
