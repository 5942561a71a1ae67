"""Bring an export back, into any account, region and prefix, under the ids and with the labels that it has.

A version's id is the ClientRequestToken it was put with, and the database records root keys by these ids: so they
are found again. As in `making`, a plan is read first, each thing is made by one request that makes nothing
twice, and a run that died anywhere is finished by the next one.
"""

from collections.abc import Iterator, Mapping, Sequence

from email_gateway.errors import OperationRefused
from email_gateway.operator import making
from email_gateway.operator.account import Account
from email_gateway.operator.exported import Export, ExportedSecret, ExportedVersion
from email_gateway.operator.kms_keys import PREFIX_TAG
from email_gateway.operator.making import State, Step, Wanted
from email_gateway.operator.stored import (
    PREVIOUS,
    StoredSecret,
    find_stored,
    find_version,
    get_stored,
    how_to_restore,
    move_label,
    put_version,
)
from email_gateway.secrets.source import CURRENT

# Moving AWSCURRENT moves AWSPREVIOUS too (AWS API reference, UpdateSecretVersionStage): in this order both end right.
FIRST_LABELS = (CURRENT, PREVIOUS)
AWS_TAGS = "aws:"  # nobody else may give these
ELSEWHERE = "nothing is overwritten: restore under another SECRETS_PREFIX, or into another region"


def plan(account: Account, export: Export) -> list[Step]:
    """Look at everything and change nothing; raises AwsRefused.

    A step that DIFFERS holds another value than the export, or one that the export does not know: then nothing
    should be made at all.
    """
    steps = making.plan(account, Wanted((), None))
    for secret in export.secrets:
        steps += _Restoring(account, secret).plan()
    return steps


def can_be_made(steps: Sequence[Step]) -> bool:
    """Tell whether nothing stands in the way of a plan."""
    return all(step.state != State.DIFFERS for step in steps)


def prove(account: Account, export: Export) -> None:
    """Raise OperationRefused unless all is now as it was exported."""
    left = [step for step in plan(account, export) if step.state != State.THERE]
    if left:
        raise OperationRefused(
            f"not all is as it was exported: {left[0].what} {left[0].name}",
            "somebody else may change the same secrets: run the command again",
        )


class _Restoring:
    def __init__(self, account: Account, secret: ExportedSecret) -> None:
        self._account = account
        self._secret = secret
        self._full_name = account.full_name(secret.name)
        self._wanted = secret.labels()
        # The one before first: the next to become current then makes it AWSPREVIOUS, as it came about.
        self._versions = sorted(secret.versions, key=self._rank)

    def plan(self) -> list[Step]:
        stored = find_stored(self._account, self._secret.name)
        if stored is not None and stored.deleted_at is not None:
            return [self._differs("secret", f"it is to be deleted: {how_to_restore(stored)}")]
        if stored is not None and (foreign := self._describe_foreign(stored)) is not None:
            return [self._differs("secret", f"{foreign}; {ELSEWHERE}")]
        secret = Step("secret", self._full_name, State.THERE)
        if stored is None:
            value = "with its first version" if self._versions else "without a value"
            secret = Step("secret", self._full_name, State.MISSING, value, self._create)
        return [secret, *self._plan_versions(stored), *self._plan_labels(stored)]

    def _plan_versions(self, stored: StoredSecret | None) -> Iterator[Step]:
        # The first one comes with the secret.
        for version in self._versions if stored is not None else self._versions[1:]:
            note = version.version_id
            there = find_version(self._account, stored, version.version_id) if stored is not None else None
            if there is None:
                make = lambda version=version: self._put(version)  # noqa: E731
                yield Step("version", self._full_name, State.MISSING, note, make)
            elif there.text == version.value:
                yield Step("version", self._full_name, State.THERE, note)
            else:
                yield self._differs("version", f"{note} has another value here; {ELSEWHERE}")

    def _plan_labels(self, stored: StoredSecret | None) -> Iterator[Step]:
        if not self._versions:
            return
        note = ", ".join(sorted(self._wanted, key=self._label_rank))
        if stored is not None and _by_label(stored) == self._wanted:
            yield Step("labels", self._full_name, State.THERE, note)
        else:
            yield Step("labels", self._full_name, State.MISSING, note, self._settle_labels)

    def _create(self) -> None:
        tags = {key: value for key, value in self._secret.tags.items() if not key.startswith(AWS_TAGS)}
        tags[PREFIX_TAG] = self._account.prefix
        first = self._versions[0] if self._versions else None
        value = {"SecretString": first.value, "ClientRequestToken": first.version_id} if first is not None else {}
        self._account.make(
            "secretsmanager:CreateSecret",
            on=self._full_name,
            Name=self._full_name,
            Description=self._secret.description,
            KmsKeyId=self._account.kms_alias,
            Tags=[{"Key": key, "Value": text} for key, text in tags.items()],
            **value,
        )

    def _put(self, version: ExportedVersion) -> None:
        stored = self._look()
        labels = version.labels
        if stored.current is None:
            # The first version of a secret becomes current, whatever it is called.
            labels = (CURRENT, *(label for label in labels if label not in FIRST_LABELS))
        put_version(self._account, stored, version.value, version.version_id, labels)

    def _settle_labels(self) -> None:
        for label in sorted(self._wanted, key=self._label_rank):
            stored, version_id = self._look(), self._wanted[label]
            holder = _by_label(stored).get(label)
            if holder != version_id:
                move_label(self._account, stored, label, to=version_id, off=holder)
        stored = self._look()
        for label, version_id in _by_label(stored).items():
            if label not in self._wanted:
                move_label(self._account, stored, label, off=version_id)

    def _look(self) -> StoredSecret:
        """Return the secret as it is now; raises OperationRefused when somebody else has put a version meanwhile."""
        stored = get_stored(self._account, self._secret.name)
        if (foreign := self._describe_foreign(stored)) is not None:
            raise OperationRefused(f"{self._full_name}: {foreign}", ELSEWHERE)
        return stored

    def _describe_foreign(self, stored: StoredSecret) -> str | None:
        ours = {version.version_id for version in self._versions}
        for version_id, labels in stored.labels.items():
            if labels and version_id not in ours:
                return f"version {version_id} ({', '.join(sorted(labels))}) is not in the export"
        return None

    def _differs(self, what: str, note: str) -> Step:
        return Step(what, self._full_name, State.DIFFERS, note)

    def _rank(self, version: ExportedVersion) -> int:
        return 0 if PREVIOUS in version.labels else 1 if CURRENT in version.labels else 2

    def _label_rank(self, label: str) -> tuple[int, str]:
        return (FIRST_LABELS.index(label) if label in FIRST_LABELS else len(FIRST_LABELS), label)


def _by_label(stored: StoredSecret) -> Mapping[str, str]:
    return {label: version_id for version_id, labels in stored.labels.items() for label in labels}
