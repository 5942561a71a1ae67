"""The function that Secrets Manager calls, four steps for each rotation of a secret.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html

| step         | here                                     | in the gateway                              |
|--------------|------------------------------------------|---------------------------------------------|
| createSecret | a value for the pending version          |                                             |
| setSecret    | asks to stage                            | fetches the version, wraps every data key   |
| testSecret   | asks to verify, or uses the admin key    | opens every data key under it               |
| finishSecret | moves AWSCURRENT, says so                | refreshes everywhere                        |

Each step may run again, alone, or after one that died anywhere.
"""

import base64
import functools
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from email_gateway.aws.failures import AwsRefused, RotationFailed
from email_gateway.aws.gateway import (
    ADMIN_API_KEY,
    DEFAULT_PATIENCE,
    ENCRYPTION_KEY,
    Gateway,
    Patience,
    Send,
    send_once,
)
from email_gateway.aws.secret import CURRENT, PENDING, Secret, find_current_value

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

log = logging.getLogger(__name__)
# The runtime leaves the root at WARNING: without this, no step would leave a line.
log.setLevel(logging.INFO)

SECRET_BYTES = 32
PIN = "EGW-"
PIN_CHARACTERS = 8
# At DEBUG these log bodies and headers, which a function with AWS_LAMBDA_LOG_LEVEL=DEBUG would then keep.
TALKATIVE = ("boto3", "botocore", "urllib3")

NOT_SERVED = {
    "encryption-salt": "the salt is not rotated: the root key comes from key and salt together, so a new"
    " encryption-key already makes a new root; turn this secret's rotation off",
    "database-url": "database-url is rotated by AWS's own function for RDS, which changes the password in the"
    " database too; the gateway reads the JSON that it keeps",
}


def handler(event: Mapping[str, Any], _context: object) -> None:
    """Take one step of a rotation: what Lambda calls.

    Raises RotationFailed, which Secrets Manager notes, and tries the rotation again later.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # This room reads the environment itself: in Lambda there are no settings of the gateway.
    take_step(event, make_client(), os.environ)


@functools.cache
def make_client() -> "SecretsManagerClient":
    """Make the AWS client, once for each container; the default timeouts would outlast the function."""
    config = Config(
        connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"}, tcp_keepalive=True
    )
    return boto3.session.Session().client("secretsmanager", config=config)


@dataclass(frozen=True, slots=True)
class Turn:
    """The event: one step for one version of a secret."""

    step: str
    secret_id: str
    version_id: str
    rotation_token: str | None = field(repr=False)


def parse_event(event: Mapping[str, Any]) -> Turn:
    """Read Secrets Manager's event; raises RotationFailed for anything else."""
    step, secret_id, version_id = (event.get(name) for name in ("Step", "SecretId", "ClientRequestToken"))
    if not (isinstance(step, str) and isinstance(secret_id, str) and isinstance(version_id, str)):
        raise RotationFailed("this is no event of a rotation: it needs Step, SecretId and ClientRequestToken")
    if step not in STEPS:
        raise RotationFailed(f"there is no step of this name; the steps are {', '.join(sorted(SPELLINGS))}")
    rotation_token = event.get("RotationToken")
    if rotation_token is not None and not isinstance(rotation_token, str):
        raise RotationFailed("RotationToken is not text")
    return Turn(STEPS[step], secret_id, version_id, rotation_token)


def take_step(
    event: Mapping[str, Any],
    client: "SecretsManagerClient",
    environ: Mapping[str, str],
    *,
    send: Send = send_once,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Check that this version is in rotation, then take the step; raises RotationFailed."""
    turn = parse_event(event)
    place = turn.secret_id
    try:
        secret = Secret.describe(client, turn.secret_id)
        place = secret.name
        prefix, name = parse_name(secret.name)
        check_staging(secret, turn.version_id)

        def open_gateway() -> Gateway:
            url, key = environ.get("GATEWAY_URL", ""), get_rotation_key(client, prefix)
            return Gateway(url, key, send=send, patience=patience)

        outcome = SPELLINGS[turn.step](Rotation(secret, name, turn, open_gateway))
    except RotationFailed as failed:
        failed.place = f"{turn.step} of {place}"
        raise
    log.info("%s of %s, version %s: %s", turn.step, secret.name, turn.version_id, outcome)


def parse_name(full_name: str) -> tuple[str, str]:
    """Return prefix and name of a secret that this function rotates; raises RotationFailed for others.

    Takes the secret's name and not its ARN, which ends in six characters of AWS's own.
    """
    prefix, _, name = full_name.rpartition("/")
    if name in NOT_SERVED:
        raise RotationFailed(NOT_SERVED[name])
    if not prefix or name not in MAKERS:
        raise RotationFailed(f"this function rotates PREFIX/{ENCRYPTION_KEY} and PREFIX/{ADMIN_API_KEY} only")
    return prefix, name


def check_staging(secret: Secret, version_id: str) -> None:
    """Raise RotationFailed unless the version is in rotation, or is already current: the guards of AWS's template."""
    if not secret.is_rotation_enabled:
        raise RotationFailed("rotation is not enabled for this secret")
    if version_id not in secret.labels:
        raise RotationFailed(f"the secret has no version {version_id}")
    if not secret.has(version_id, CURRENT) and not secret.has(version_id, PENDING):
        told = f"version {version_id} is not AWSPENDING"
        if (other := secret.find_labelled(PENDING)) is not None:
            told += f", {other} is: finish its rotation, or take the label off with update-secret-version-stage"
        raise RotationFailed(told)


def get_rotation_key(client: "SecretsManagerClient", prefix: str) -> str:
    """Return the key that the gateway asks this function for; raises RotationFailed without one."""
    name = f"{prefix}/rotation-key"
    key = find_current_value(client, name)
    if key is None:
        raise RotationFailed(f"there is no secret {name}: create it with 32 random characters or more")
    return key


class Rotation:
    """One version of a secret on its way to AWSCURRENT; each step returns what came of it, for the log."""

    def __init__(self, secret: Secret, name: str, turn: Turn, open_gateway: Callable[[], Gateway]) -> None:
        self._secret = secret
        self._name = name
        self._turn = turn
        self._version_id = turn.version_id
        self._open_gateway = open_gateway
        self._is_current = secret.has(turn.version_id, CURRENT)

    def create(self) -> str:
        """Give the version its value, once: a step that is taken again must not make a second one."""
        if self._is_current:
            return ALREADY_CURRENT
        if self._secret.find_pending(self._version_id) is not None:
            return "it has a value"
        self._secret.put_pending(self._version_id, MAKERS[self._name](), self._turn.rotation_token)
        return "a new value is stored"

    def set(self) -> str:
        """Let the gateway prepare for the new value before anyone may use it."""
        if self._is_current:
            return ALREADY_CURRENT
        self._open_gateway().stage(self._name, self._version_id)
        return "the gateway has staged it"

    def test(self) -> str:
        """Let the gateway prove that the new value works.

        Setting rotation up with RotateImmediately=false calls this step alone, with a version that has
        no value or a copy of the current one: then only the way to the gateway and the keys are tried.
        """
        if self._is_current:
            return ALREADY_CURRENT
        gateway = self._open_gateway()
        value, current = self._secret.find_pending(self._version_id), self._secret.find_current()
        is_new = value is not None and value != current
        if self._name == ENCRYPTION_KEY:
            gateway.verify(self._version_id if is_new else None)
        else:
            gateway.check_admin_key(value or current or "")
        return "the gateway has verified it" if is_new else "the gateway can be reached; there is no new value to test"

    def finish(self) -> str:
        """Make the version current, and tell the gateway, also when an earlier run died in between."""
        if not self._is_current:
            self._promote()
        self._take_off_pending()
        self._complete()
        return ALREADY_CURRENT if self._is_current else "it is AWSCURRENT now"

    def _promote(self) -> None:
        if self._secret.find_pending(self._version_id) is None:
            # Left by a rotation that failed, or taken alone: an empty version must never be current.
            raise RotationFailed(f"version {self._version_id} has no value, so it cannot become current")
        current = self._secret.find_labelled(CURRENT)
        for version_id in (self._version_id, current):
            if version_id is not None:
                self._pin(version_id)
        try:
            self._secret.move_label(CURRENT, to=self._version_id, off=current)
        except AwsRefused:
            # The answer to an attempt that went through may have been lost, and its repeat is refused.
            if not self._secret.describe_again().has(self._version_id, CURRENT):
                raise

    def _pin(self, version_id: str) -> None:
        """Keep Secrets Manager from deleting the version: it prunes those without labels.

        A root key is needed as long as a backup holds what it opens, longer than AWSPREVIOUS lasts.
        """
        if any(label.startswith(PIN) for label in self._secret.labels[version_id]):
            return
        label = PIN + version_id[:PIN_CHARACTERS]
        try:
            self._secret.move_label(label, to=version_id)
        except AwsRefused as refused:
            log.warning("%s: version %s has no label %s: %s", self._secret.name, version_id, label, refused)

    def _take_off_pending(self) -> None:
        # RotateSecret accepts AWSPENDING on the current version; without it, describe-secret shows no rotation.
        if not self._secret.has(self._version_id, PENDING):
            return
        try:
            self._secret.move_label(PENDING, off=self._version_id)
        except AwsRefused as refused:
            log.warning("%s: version %s keeps AWSPENDING, to no harm: %s", self._secret.name, self._version_id, refused)

    def _complete(self) -> None:
        try:
            self._open_gateway().complete(self._name, self._version_id)
        except RotationFailed as failed:
            told = "the gateway's next refresh will find it"
            log.warning("%s, version %s is current and %s: %s", self._secret.name, self._version_id, told, failed)


ALREADY_CURRENT = "it was AWSCURRENT already"


def make_encryption_key() -> str:
    """Return 32 random bytes as one line of base64."""
    return base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def make_admin_key() -> str:
    """Return 43 characters that need no quoting in a header, a URL or a shell."""
    return secrets.token_urlsafe(SECRET_BYTES)


MAKERS = {ENCRYPTION_KEY: make_encryption_key, ADMIN_API_KEY: make_admin_key}
SPELLINGS: dict[str, Callable[[Rotation], str]] = {
    "createSecret": Rotation.create,
    "setSecret": Rotation.set,
    "testSecret": Rotation.test,
    "finishSecret": Rotation.finish,
}
# Secrets Manager writes createSecret; its documentation and some tools write create_secret.
STEPS = {spelling: step for step in SPELLINGS for spelling in (step, step.removesuffix("Secret").lower() + "_secret")}
