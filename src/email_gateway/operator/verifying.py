"""Whether an account's secrets are as the gateway and the policy want them; reads only, and shows no value."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from email_gateway.errors import AwsRefused
from email_gateway.operator.account import Account
from email_gateway.operator.kms_keys import KmsKey, find_key, names_alias
from email_gateway.operator.policies import denies_deletion
from email_gateway.operator.stored import (
    GENERATED,
    StoredSecret,
    Version,
    find_policy,
    find_stored,
    how_to_change,
    how_to_restore,
    read_version,
)
from email_gateway.secrets.secret import MOST_AGE, SECRETS, KnownSecret, SecretName

# Before that an operator still has time; the last part of a value's life is named.
NEARLY = 0.9
# Without these nothing can be said; the others the gateway's own role does not have, and need not.
NEEDED = ("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue")
DENIED_CODES = ("AccessDenied", "DecryptionFailure", "KMSAccessDenied")

T = TypeVar("T")


class Verdict(StrEnum):
    """What is to be done: nothing, nothing yet, or something now (exit code 1)."""

    OK = "ok"
    ADVICE = "advice"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to be done, or worth knowing."""

    about: str
    verdict: Verdict
    problem: str
    next_step: str


@dataclass(slots=True)
class Checked:
    """What was seen of one secret; None where it could not be seen or does not apply."""

    name: SecretName
    is_there: bool = False
    is_readable: bool | None = None
    has_right_form: bool | None = None
    has_right_kms_key: bool | None = None
    current: str | None = None
    previous: str | None = None
    pending: str | None = None
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    age: timedelta | None = None
    most_age: timedelta | None = None
    rotation: bool = False
    next_rotation_at: datetime | None = None
    deleted_at: datetime | None = None
    is_guarded: bool | None = None
    remarks: list[Remark] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        return worst(self.remarks)

    def remark(self, verdict: Verdict, problem: str, next_step: str) -> None:
        self.remarks.append(Remark(self.name, verdict, problem, next_step))


@dataclass(frozen=True, slots=True)
class Verified:
    """Everything that was seen, and by whom."""

    caller: str
    region: str
    kms_alias: str
    kms_key: KmsKey | None
    secrets: tuple[Checked, ...]
    permissions: dict[str, str]
    remarks: tuple[Remark, ...]

    @property
    def verdict(self) -> Verdict:
        return worst(self.remarks)


def worst(remarks: Iterable[Remark]) -> Verdict:
    """Return the gravest verdict of these."""
    verdicts = {remark.verdict for remark in remarks}
    return next((each for each in (Verdict.ACT, Verdict.ADVICE) if each in verdicts), Verdict.OK)


def verify(account: Account, report: Callable[[SecretName], None], now: datetime | None = None) -> Verified:
    """Look at the KMS key and at every secret; `report` is told each before it is looked at.

    What the caller may not do is a remark, not an error. Raises AwsRefused without credentials, and
    when AWS is away.
    """
    caller = str(account.call("sts:GetCallerIdentity").get("Arn"))
    verifier = _Verifier(account, now or datetime.now(UTC))
    verifier.check_key()
    checked = []
    for known in SECRETS:
        report(known.name)
        checked.append(verifier.check(known))
    verifier.compare_twins(checked)
    remarks = [*verifier.remarks, *(remark for each in checked for remark in each.remarks)]
    return Verified(caller, account.region, account.kms_alias, verifier.key, tuple(checked), verifier.permissions,
                    tuple(remarks))  # fmt: skip


class _Verifier:
    def __init__(self, account: Account, now: datetime) -> None:
        self._account = account
        self._now = now
        self._texts: dict[SecretName, str] = {}
        self.key: KmsKey | None = None
        self.permissions: dict[str, str] = {}
        self.remarks: list[Remark] = []

    def check_key(self) -> None:
        alias = self._account.kms_alias
        is_allowed, self.key = self._try("kms:DescribeKey", lambda: find_key(self._account, alias))
        if not is_allowed:
            return
        if self.key is None:
            self.remarks.append(Remark(alias, Verdict.ACT, "there is no such KMS key", "`email-gateway secrets init`"))
        elif not self.key.is_usable:
            self.remarks.append(Remark(alias, Verdict.ACT, f"the KMS key is {self.key.state}", self.key.next_step))

    def check(self, known: KnownSecret) -> Checked:
        checked = Checked(known.name, most_age=MOST_AGE.get(known.name))
        is_allowed, stored = self._try(
            "secretsmanager:DescribeSecret", lambda: find_stored(self._account, known.name), checked
        )
        if not is_allowed:
            return checked
        if stored is None:
            if known.is_critical:
                checked.remark(Verdict.ACT, "it is not there", "`email-gateway secrets init`")
            return checked
        self._note_versions(checked, stored)
        if stored.deleted_at is not None:
            checked.remark(Verdict.ACT, f"to be deleted on {stored.deleted_at:%Y-%m-%d}", how_to_restore(stored))
            return checked
        self._check_kms_key(checked, stored)
        self._check_rotation(checked, stored)
        self._check_value(checked, stored, known)
        self._check_policy(checked, stored)
        return checked

    def compare_twins(self, checked: Iterable[Checked]) -> None:
        """Refuse an encryption key and a salt that are one text, as the gateway does."""
        key, salt = (self._texts.get(name) for name in (SecretName.ENCRYPTION_KEY, SecretName.ENCRYPTION_SALT))
        if key is not None and key == salt:
            for each in checked:
                if each.name == SecretName.ENCRYPTION_SALT:
                    each.has_right_form = False
                    each.remark(Verdict.ACT, "it is the same text as the encryption key", how_to_change(each.name))

    def _note_versions(self, checked: Checked, stored: StoredSecret) -> None:
        checked.is_there = True
        checked.current, checked.previous, checked.pending = stored.current, stored.previous, stored.pending
        checked.labels = dict(stored.labels)
        checked.deleted_at = stored.deleted_at

    def _check_kms_key(self, checked: Checked, stored: StoredSecret) -> None:
        own = stored.kms_key_id
        if names_alias(own, self._account.kms_alias):
            checked.has_right_kms_key = True
        elif self.key is not None:
            is_allowed, found = self._try(
                "kms:DescribeKey", lambda: find_key(self._account, own) if own else None, checked
            )
            checked.has_right_kms_key = (found is not None and found.arn == self.key.arn) if is_allowed else None
        if checked.has_right_kms_key is False:
            checked.remark(
                Verdict.ACT,
                "another KMS key encrypts it" if own else "AWS's own KMS key encrypts it",
                f"`aws secretsmanager update-secret --secret-id {stored.full_name}"
                f" --kms-key-id {self._account.kms_alias}`",
            )

    def _check_rotation(self, checked: Checked, stored: StoredSecret) -> None:
        checked.rotation = stored.rotation_function is not None
        checked.next_rotation_at = stored.next_rotation_at
        if stored.pending is not None:
            checked.remark(
                Verdict.ACT,
                "a rotation has begun and not ended (AWSPENDING)",
                f"read the function's log and let it end; or `email-gateway secrets rotate {stored.name}"
                " --abandon-pending`",
            )
        if checked.next_rotation_at is not None and checked.next_rotation_at < self._now:
            checked.remark(Verdict.ACT, "its rotation is overdue", "read the function's log in CloudWatch")

    def _check_value(self, checked: Checked, stored: StoredSecret, known: KnownSecret) -> None:
        if stored.current is None:
            verdict = Verdict.ACT if known.is_critical else Verdict.ADVICE
            checked.is_readable = False
            checked.remark(verdict, "it has no value", _how_to_fill(stored))
            return
        is_allowed, version = self._try(
            "secretsmanager:GetSecretValue", lambda: read_version(self._account, stored), checked
        )
        checked.is_readable = is_allowed
        if version is None:
            return
        try:
            self._texts[stored.name] = known.read_stored(version.text)
            checked.has_right_form = True
        except ValueError as wrong:
            checked.has_right_form = False
            checked.remark(Verdict.ACT, f"its value {wrong}", how_to_change(stored.name))
        self._check_age(checked, stored, version)

    def _check_age(self, checked: Checked, stored: StoredSecret, version: Version) -> None:
        if version.created_at is None:
            return
        checked.age = max(self._now - version.created_at, timedelta(0))
        if checked.most_age is None or checked.age < checked.most_age * NEARLY:
            return
        is_over = checked.age > checked.most_age
        problem = f"it is {checked.age.days} days old, {checked.most_age.days} are the most"
        checked.remark(Verdict.ACT if is_over else Verdict.ADVICE, problem, how_to_change(stored.name))

    def _check_policy(self, checked: Checked, stored: StoredSecret) -> None:
        is_allowed, policy = self._try(
            "secretsmanager:GetResourcePolicy", lambda: find_policy(self._account, stored), checked
        )
        if not is_allowed:
            return
        checked.is_guarded = denies_deletion(policy)
        if not checked.is_guarded:
            checked.remark(
                Verdict.ADVICE,
                "no resource policy denies its deletion",
                "`email-gateway secrets init --administrator ROLE_ARN --rotation ROLE_ARN`",
            )

    def _try(self, action: str, look: Callable[[], T], checked: Checked | None = None) -> tuple[bool, T | None]:
        """Do one look and note whether the caller may; what is denied is a remark, anything else raises."""
        try:
            seen = look()
        except AwsRefused as refused:
            if not refused.aws_code.startswith(DENIED_CODES):
                raise
            self.permissions[action] = "denied"
            verdict = Verdict.ACT if action in NEEDED else Verdict.ADVICE
            problem = f"{action} is denied ({refused.aws_code})"
            about = checked.name if checked else self._account.kms_alias
            remark = Remark(about, verdict, problem, refused.next_step or "")
            (checked.remarks if checked else self.remarks).append(remark)
            return False, None
        self.permissions.setdefault(action, "allowed")
        return True, seen


def _how_to_fill(stored: StoredSecret) -> str:
    return "`email-gateway secrets init`" if stored.name in GENERATED else how_to_change(stored.name)
