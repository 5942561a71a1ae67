"""The operator of the stand: changes secrets, asks the fleet to read them, sees who holds what."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.rotations.stand import API_PROCESSES, PREFIX, Stand, count_processes, new_value, wait_until
from email_gateway.aws.rotation import take_step
from tests.moto_server import begin_rotation, settle_current

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
CURRENT, PREVIOUS, PENDING = "AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"
ADMIN_KEY = "admin-api-key"
ROOT_SECRETS = ("encryption-key", "encryption-salt")
REFUSALS = 50
# One client may send ten wrong keys a minute: every connection of ours comes from an address of its own.
_sources = (f"127.{a}.{b}.{c}" for a, b, c in itertools.product(range(1, 255), range(1, 255), range(1, 255)))


REVOKED_WITHIN_SECONDS = 5.0


@dataclass
class Operator:
    """What the operator knows: which version and value of each secret is current, and what was before.

    `moments` are when something changed, `kills` when an api process was killed, by the monotonic
    clock; `told_at` is when the fleet was told of the last change. `refused_after` are the seconds from
    each revocation until every process refused. One that `is_hurried` does not wait for the ten
    seconds between two refreshes.
    """

    stand: Stand
    is_hurried: bool = False
    revoked_within: float = REVOKED_WITHIN_SECONDS
    versions: dict[str, str] = field(default_factory=dict)
    admin_key: str = ""
    former_admin_keys: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    password_changed_at: float = 0.0
    refused_after: list[float] = field(default_factory=list)
    told_at: float = 0.0
    _next_admin_key: str = ""
    _asking: threading.Thread | None = None

    def look(self) -> None:
        """Read from Secrets Manager what is current."""
        for name in (*ROOT_SECRETS, ADMIN_KEY, "database-url"):
            answer = self.stand.client.get_secret_value(SecretId=f"{PREFIX}/{name}", VersionStage=CURRENT)
            self.versions[name] = answer["VersionId"]
            self.stand.hidden.setdefault(answer["SecretString"], name)
            if name == ADMIN_KEY:
                self._next_admin_key = answer["SecretString"]

    def take_new_admin_key(self) -> None:
        """Use the current admin key from now on; until all have heard of it, the one before is the safe one."""
        if self._next_admin_key != self.admin_key:
            self.former_admin_keys += [self.admin_key] if self.admin_key else []
            self.admin_key = self._next_admin_key

    def note(self) -> None:
        """Remember this moment as one at which something changed."""
        self.told_at = time.monotonic()
        self.moments.append(self.told_at)

    # Secrets Manager -----------------------------------------------------------------------

    def put(self, name: str, value: str | None = None, stage: str = CURRENT) -> str:
        """Store a new value of a secret, under this label; return its VersionId."""
        value = value or new_value()
        self.stand.hidden[value] = name
        settle_current(f"{PREFIX}/{name}")
        self.note()
        version_id = self.stand.client.put_secret_value(
            SecretId=f"{PREFIX}/{name}", SecretString=value, VersionStages=[stage]
        )["VersionId"]
        self._require_label(name, stage, version_id)
        return version_id

    def move_current(self, name: str, version_id: str) -> None:
        """Move the label AWSCURRENT to this version."""
        self.note()
        self.stand.client.update_secret_version_stage(
            SecretId=f"{PREFIX}/{name}",
            VersionStage=CURRENT,
            MoveToVersionId=version_id,
            RemoveFromVersionId=self.versions[name],
        )
        self._require_label(name, CURRENT, version_id)

    def labelled(self, name: str, label: str) -> str:
        """Return the VersionId that carries a label."""
        told = self.stand.client.describe_secret(SecretId=f"{PREFIX}/{name}")["VersionIdsToStages"]
        (version_id,) = [version_id for version_id, labels in told.items() if label in labels]
        return version_id

    def _require_label(self, name: str, label: str, version_id: str) -> None:
        # A rotation that changed nothing would keep every promise.
        if self.labelled(name, label) != version_id:
            raise RuntimeError(f"the emulator did not move {label} of {name}")

    def rotate_by_function(self, name: str) -> None:
        """Take the rotation function's four steps, as Secrets Manager calls them."""
        full_name = f"{PREFIX}/{name}"
        event = {
            "SecretId": self.stand.client.describe_secret(SecretId=full_name)["ARN"],
            "ClientRequestToken": begin_rotation(full_name),
        }
        environ = {"GATEWAY_URL": self.stand.gateway.url}
        for step in STEPS:
            self.note()
            take_step({**event, "Step": step}, self.stand.client, environ)
        self._require_label(name, CURRENT, event["ClientRequestToken"])

    # The gateway ---------------------------------------------------------------------------

    def refresh(self, *, revoke_previous: bool = False) -> dict[str, Any]:
        """Ask the fleet to read its secrets, waiting until another request is allowed; return the answer."""
        while True:
            if self.is_hurried:
                self.stand.sql("UPDATE generation SET asked_at = NULL")
            asked_at = self.told_at = time.monotonic()
            status, answer = self.request("POST", "/admin/secrets/refresh", {"revoke_previous": revoke_previous})
            if status == http.client.OK:
                self.moments.append(asked_at)
                return answer
            if status != http.client.TOO_MANY_REQUESTS:
                raise RuntimeError(f"the refresh was answered {status} {answer.get('code')}")
            time.sleep(0.5)

    def begin_refresh(self) -> None:
        """Ask for a refresh and do not wait for its answer, which waits for every process; `join` does."""
        self._asking = threading.Thread(target=self.refresh)
        self._asking.start()

    def join(self) -> None:
        """Wait for the answer to the refresh that was begun."""
        if self._asking is not None:
            self._asking.join()
            self._asking = None

    def request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, dict[str, Any]]:
        """Send a request with the admin key on a connection of its own; again when it is cut off."""
        headers = {"x-admin-key": self.admin_key, "content-type": "application/json"}
        for pause in (0.2, 0.5, 1.0, 2.0):
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self._exchange(method, path, body, headers)
            time.sleep(pause)
        return self._exchange(method, path, body, headers)

    def instances(self) -> list[dict[str, Any]]:
        """Return the live processes with the versions they hold."""
        return [each for each in self._get("/admin/secrets")["instances"] if each["pid"] not in self.killed]

    def _get(self, path: str) -> dict[str, Any]:
        status, answer = self.request("GET", path)
        if status != http.client.OK:
            raise RuntimeError(f"GET {path} was answered {status} {answer.get('code')}")
        return answer

    def await_versions(self, names: tuple[str, ...], within: float) -> bool:
        """Wait until every process holds the current versions and has acknowledged them."""

        def all_hold() -> bool:
            instances = self.instances()
            return len(instances) == count_processes(self.stand) and all(
                each["acknowledged"] and all(each["versions"].get(name) == self.versions[name] for name in names)
                for each in instances
            )

        return wait_until(all_hold, within) is not None

    def await_root(self, within: float) -> bool:
        """Wait until the root of the current key and salt is active, and every process holds it."""
        versions = [self.versions[name] for name in ROOT_SECRETS]

        def all_hold() -> bool:
            answer = self._get("/admin/keys")
            active = [root for root in answer["roots"] if root["state"] == "active"]
            if [[root["key_version_id"], root["salt_version_id"]] for root in active] != [versions]:
                return False
            live = [each for each in answer["instances"] if each["pid"] not in self.killed]
            return len(live) == count_processes(self.stand) and all(
                each["active_root"] == active[0]["root_id"] for each in live
            )

        return wait_until(all_hold, within) is not None

    def kill_api_process(self) -> None:
        """Kill one of the api's processes; their parent starts it again."""
        pid = next(each["pid"] for each in self.instances() if each["process"] == "api")
        self.killed.add(pid)
        self.kills.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)

    def kill_worker(self, name: str) -> None:
        """Kill a worker and start it again, as a supervisor does."""
        self.killed.add(self.stand.gateway.pid_of(name))
        self.stand.gateway.kill(name)
        self.stand.gateway.start(name)

    def restart_worker(self, name: str) -> None:
        """End a worker kindly and start it again."""
        self.stand.gateway.end(name)
        self.stand.gateway.start(name)

    def await_refusal(self, keys: list[str], within: float) -> tuple[float | None, int]:
        """Return the moment from which every process refuses these admin keys, and how many connections showed it.

        The kernel spreads new connections over the api's processes: so many are made that each
        process, known by when its counters began, has refused every key. None when one still opens
        after the time.
        """
        ends_at = time.monotonic() + within
        while True:
            seen: dict[str, float] = {}
            connections = 0
            while len(seen) < API_PROCESSES or connections < REFUSALS:
                process, statuses = self._try_keys(keys)
                connections += 1
                if set(statuses) != {http.client.UNAUTHORIZED}:
                    break
                seen.setdefault(process, time.monotonic())
                if connections > 10 * REFUSALS:
                    raise RuntimeError(f"{len(seen)} of {API_PROCESSES} api processes answered {connections} times")
            else:
                return max(seen.values()), connections
            if time.monotonic() > ends_at:
                return None, connections

    def _try_keys(self, keys: list[str]) -> tuple[str, list[int]]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.stand.gateway.port, timeout=10, source_address=(next(_sources), 0)
        )
        try:
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
            process = next(line for line in metrics.splitlines() if line.startswith("email_gateway_accepted_created "))
            statuses = []
            for key in keys[-9:]:  # the tenth wrong one would be refused whatever it is
                connection.request("GET", "/admin/secrets", headers={"x-admin-key": key})
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            return process, statuses
        finally:
            connection.close()

    def _exchange(
        self, method: str, path: str, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.stand.gateway.port, timeout=15)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), dict(headers))
            answer = connection.getresponse()
            read: dict[str, Any] = json.loads(answer.read())
            return answer.status, read
        finally:
            connection.close()
