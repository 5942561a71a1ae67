"""Change a secret's value: another at random, one from a file, or the one before; by the rotation function where it runs."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from email_gateway.errors import AwsRefused, OperationRefused
from email_gateway.operator.account import Account
from email_gateway.operator.making import make_value
from email_gateway.operator.stored import (
    GENERATED,
    PREVIOUS,
    StoredSecret,
    find_stored,
    get_known,
    get_stored,
    how_to_change,
    move_label,
    pin,
    put_version,
    read_version,
)
from email_gateway.secrets.secret import KnownSecret, SecretName
from email_gateway.secrets.source import CURRENT, PENDING
from email_gateway.secrets.validation import strip_secret

TWINS = {
    SecretName.ENCRYPTION_KEY: SecretName.ENCRYPTION_SALT,
    SecretName.ENCRYPTION_SALT: SecretName.ENCRYPTION_KEY,
}
# A rotation by the function takes seconds; one that cannot reach the gateway is tried again for hours.
PATIENCE = timedelta(seconds=120)
LOOK_EVERY = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of a change: the version that is current now, and the one before.

    `unpinned` are versions of a key or salt that could not be given the label that keeps them.
    """

    name: SecretName
    version_id: str
    former_version_id: str | None
    by_function: bool = False
    unpinned: tuple[str, ...] = ()


def rotate(
    account: Account,
    name: SecretName,
    *,
    abandons_pending: bool = False,
    patience: timedelta = PATIENCE,
    report: Callable[[timedelta], None] = lambda _: None,
) -> Changed:
    """Give a secret another value: by its rotation function when it has one, else one made here.

    Waits for the function, and has `report` told for how long so far. Raises OperationRefused for a
    pending rotation that is not to be abandoned, and when the function does not finish in time.
    """
    stored = get_stored(account, name)
    if stored.rotation_function is None and name not in GENERATED:
        raise OperationRefused(
            f"{stored.full_name} is a URL, which nobody can make up",
            f"store another with {how_to_change(name)}",
        )
    _settle_pending(account, stored, abandons=abandons_pending)
    if stored.rotation_function is not None:
        version_id = _start_function(account, stored)
        _await_function(account, name, version_id, patience, report)
        return Changed(name, version_id, stored.current, by_function=True)
    return _put(account, stored, make_value())


def set_value(account: Account, name: SecretName, text: object, *, abandons_pending: bool = False) -> Changed:
    """Give a secret this value, once it has passed the validation of the gateway itself.

    Raises OperationRefused, which quotes nothing, for a text that the gateway would not take, the value
    that is current, and a key that is the salt.
    """
    known = get_known(name)
    try:
        value = known.read_stored(text)
    except ValueError as wrong:
        raise OperationRefused(
            f"nothing was stored: the value for {name} {wrong}", "docs/secrets.md says which forms are taken"
        ) from None
    stored = get_stored(account, name)
    if _current_value(account, known, stored) == value:
        raise OperationRefused(f"{stored.full_name} has this value already")
    twin = TWINS.get(name)
    other = find_stored(account, twin) if twin is not None else None
    if twin is not None and other is not None and _current_value(account, get_known(twin), other) == value:
        raise OperationRefused(f"this is the value of {other.full_name}: the two must differ", "make another one")
    _settle_pending(account, stored, abandons=abandons_pending)
    return _put(account, stored, strip_secret(text))


def roll_back(account: Account, name: SecretName, *, abandons_pending: bool = False) -> Changed:
    """Move AWSCURRENT back to the version that was current before; once more moves it forward again.

    That version is validated first. Raises OperationRefused when there is none, or it is no right value.
    """
    known, stored = get_known(name), get_stored(account, name)
    current, previous = stored.current, stored.previous
    if current is None or previous is None:
        raise OperationRefused(f"{stored.full_name} has no version before the current one")
    try:
        known.read_stored(read_version(account, stored, PREVIOUS).text)
    except ValueError as wrong:
        raise OperationRefused(
            f"nothing was changed: the version before {wrong}", f"store another: {how_to_change(name)}"
        ) from None
    _settle_pending(account, stored, abandons=abandons_pending)
    move_label(account, stored, CURRENT, to=previous, off=current)
    return Changed(name, previous, current)


def _put(account: Account, stored: StoredSecret, value: str) -> Changed:
    version_id = put_version(account, stored, value, str(uuid.uuid4()))
    versions = [version for version in (stored.current, version_id) if version is not None]
    unpinned = tuple(version for version in versions if not _is_pinned(account, stored, version))
    return Changed(stored.name, version_id, stored.current, unpinned=unpinned)


def _is_pinned(account: Account, stored: StoredSecret, version_id: str) -> bool:
    try:
        pin(account, stored, version_id)
    except AwsRefused:
        return False  # the value is changed all the same, and that is what must be told
    return True


def _current_value(account: Account, known: KnownSecret, stored: StoredSecret) -> str | None:
    """Return what is stored now in the form that the gateway compares, or None where it would take nothing of it."""
    if stored.current is None or stored.deleted_at is not None:
        return None
    try:
        return known.read_stored(read_version(account, stored).text)
    except ValueError:
        return None


def _settle_pending(account: Account, stored: StoredSecret, *, abandons: bool) -> None:
    """Refuse while a rotation is pending, or abandon it: another value would end it in silence."""
    if stored.pending is None:
        return
    if not abandons:
        raise OperationRefused(
            f"a rotation of {stored.full_name} is pending: version {stored.pending} has AWSPENDING",
            "let the rotation function finish (its log says what it waits for), or give it up with --abandon-pending",
        )
    move_label(account, stored, PENDING, off=stored.pending)


def _start_function(account: Account, stored: StoredSecret) -> str:
    answer = account.call(
        "secretsmanager:RotateSecret",
        on=stored.full_name,
        SecretId=stored.arn,
        ClientRequestToken=str(uuid.uuid4()),
        RotateImmediately=True,
    )
    return str(answer["VersionId"])


def _await_function(
    account: Account,
    name: SecretName,
    version_id: str,
    patience: timedelta,
    report: Callable[[timedelta], None],
) -> None:
    began = time.monotonic()
    while get_stored(account, name).current != version_id:
        waited = timedelta(seconds=time.monotonic() - began)
        report(waited)
        if waited >= patience:
            raise OperationRefused(
                f"the rotation function has not finished version {version_id} of {account.full_name(name)} yet",
                "its log in CloudWatch says at which step it is; Secrets Manager tries it again by itself."
                " `email-gateway secrets verify` shows when it is done",
            )
        time.sleep(LOOK_EVERY.total_seconds())
