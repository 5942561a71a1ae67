"""Make what is missing in an account: the KMS key, the secrets, their values, tags and policies.

A plan is read first and says of each thing whether it is there. Then what is missing is made, in order, each
by one request that makes nothing twice; nothing that is there is changed. So a run that died anywhere is
finished by the next one.
"""

import base64
import json
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from email_gateway.operator.account import Account
from email_gateway.operator.kms_keys import (
    PREFIX_TAG,
    KmsKey,
    find_key,
    find_key_without_alias,
    make_alias,
    make_key,
    names_alias,
)
from email_gateway.operator.policies import Guards, make_policy
from email_gateway.operator.stored import (
    GENERATED,
    StoredSecret,
    find_policy,
    find_stored,
    how_to_restore,
    put_version,
)
from email_gateway.secrets.secret import SECRETS, SecretName

KEY_BYTES = 32
# From the name of the secret alone: a second run, also one at the same time, asks for the same version.
FIRST_VERSION = uuid.UUID("6f5f2f0e-3f0c-4a57-9f4b-0d3c4f5c7a11")
DESCRIPTIONS = {
    SecretName.ENCRYPTION_KEY: "With the salt it makes the root key of Email Gateway",
    SecretName.ENCRYPTION_SALT: "With the key it makes the root key of Email Gateway",
    SecretName.ADMIN_API_KEY: "Opens /admin and the dashboard of Email Gateway",
    SecretName.DATABASE_URL: "PostgreSQL of Email Gateway",
    SecretName.SMTP_URL: "The smarthost of Email Gateway",
    SecretName.REDIS_URL: "Redis of Email Gateway",
    SecretName.ROTATION_KEY: "Opens the rotation endpoints of Email Gateway to the rotation function",
}


class State(StrEnum):
    """How a thing stands before anything is done; the last two are left to people."""

    THERE = "there"
    MISSING = "missing"
    WAITS = "waits"
    YOURS = "yours to do"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing of the plan; `make` is set where it is missing, `note` says what is made or what to do."""

    what: str
    name: str
    state: State
    note: str = ""
    make: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an account should hold; without `guards` policies are left out."""

    names: tuple[SecretName, ...]
    guards: Guards | None

    @classmethod
    def of(cls, optional: Iterable[SecretName], guards: Guards | None) -> "Wanted":
        """Want the critical secrets and these optional ones, in the order of the documentation."""
        asked = set(optional)
        return cls(tuple(known.name for known in SECRETS if known.is_critical or known.name in asked), guards)


def make_value() -> str:
    """Return a new value from the operating system: 32 random bytes in base64, as the rotation function makes them."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def plan(account: Account, wanted: Wanted) -> list[Step]:
    """Look at everything and change nothing; raises AwsRefused."""
    planner = _Planner(account, wanted)
    steps = planner.plan_key()
    for name in wanted.names:
        steps += planner.plan_secret(name)
    return steps


def carry_out(steps: Iterable[Step], report: Callable[[Step], None]) -> None:
    """Make what is missing, in order, and report each step once it is done. Raises AwsRefused at the first refusal."""
    for step in steps:
        if step.make is not None:
            step.make()
        report(step)


class _Planner:
    def __init__(self, account: Account, wanted: Wanted) -> None:
        self._account = account
        self._wanted = wanted
        self._key: KmsKey | None = None
        self._key_arn = ""

    def plan_key(self) -> list[Step]:
        alias = self._account.kms_alias
        self._key = key = find_key(self._account, alias)
        if key is not None:
            state = State.THERE if key.is_usable else State.DIFFERS
            there = Step("KMS key", key.arn.rpartition("/")[2], state, "" if key.is_usable else key.next_step)
            return [there, Step("KMS alias", alias, State.THERE)]
        orphan = find_key_without_alias(self._account)
        if orphan is None:
            first = Step("KMS key", "", State.MISSING, "symmetric, made by AWS", self._make_key)
        else:
            self._key_arn = orphan.arn
            first = Step("KMS key", orphan.arn.rpartition("/")[2], State.THERE, "found by its tag")
        return [first, Step("KMS alias", alias, State.MISSING, "names that key", self._make_alias)]

    def plan_secret(self, name: SecretName) -> list[Step]:
        stored = find_stored(self._account, name)
        full_name = self._account.full_name(name)
        if stored is None:
            if self._must_wait:
                return [Step("secret", full_name, State.WAITS, "for the KMS key")]
            value = "with a random value" if name in GENERATED else "without a value"
            make = Step("secret", full_name, State.MISSING, value, lambda: self._make_secret(name))
            return [make, *self._plan_own_value(name, full_name), *self._plan_policy(name, None)]
        if stored.deleted_at is not None:
            return [Step("secret", full_name, State.DIFFERS, f"to be deleted: {how_to_restore(stored)}")]
        return [self._judge_key(stored), *self._plan_value(stored), *self._plan_tags(stored),
                *self._plan_policy(name, stored)]  # fmt: skip

    @property
    def _must_wait(self) -> bool:
        return self._key is not None and not self._key.is_usable

    def _judge_key(self, stored: StoredSecret) -> Step:
        alias = self._account.kms_alias
        own = find_key(self._account, stored.kms_key_id) if stored.kms_key_id else None
        if self._is_same_key(stored, own):
            return Step("secret", stored.full_name, State.THERE)
        change = f"`aws secretsmanager update-secret --secret-id {stored.full_name} --kms-key-id {alias}`"
        return Step("secret", stored.full_name, State.DIFFERS, f"another KMS key encrypts it: {change}")

    def _is_same_key(self, stored: StoredSecret, own: KmsKey | None) -> bool:
        # A secret may name an alias that is still to be made.
        if names_alias(stored.kms_key_id, self._account.kms_alias):
            return True
        expected = self._key.arn if self._key else self._key_arn
        return own is not None and own.arn == expected

    def _plan_value(self, stored: StoredSecret) -> list[Step]:
        if stored.current is not None:
            return []
        if stored.pending is not None:
            note = "a rotation has begun on a secret without a value: finish or abandon it"
            return [Step("value", stored.full_name, State.DIFFERS, note)]
        if stored.name not in GENERATED:
            return self._plan_own_value(stored.name, stored.full_name)
        if self._must_wait:
            return [Step("value", stored.full_name, State.WAITS, "for the KMS key")]
        return [Step("value", stored.full_name, State.MISSING, "random", lambda: self._make_value(stored))]

    def _plan_own_value(self, name: SecretName, full_name: str) -> list[Step]:
        if name in GENERATED:
            return []
        note = f"`email-gateway secrets set {name} --from-file FILE`"
        return [Step("value", full_name, State.YOURS, note)]

    def _plan_tags(self, stored: StoredSecret) -> list[Step]:
        missing = {key: value for key, value in self._tags().items() if key not in stored.tags}
        if not missing:
            return []
        make = lambda: self._make_tags(stored, missing)  # noqa: E731
        return [Step("tags", stored.full_name, State.MISSING, ", ".join(sorted(missing)), make)]

    def _plan_policy(self, name: SecretName, stored: StoredSecret | None) -> list[Step]:
        guards, full_name = self._wanted.guards, self._account.full_name(name)
        if guards is None:
            return []
        policy = make_policy(name, guards)
        there = find_policy(self._account, stored) if stored else None
        if there is None:
            note = "only two roles may delete it"
            return [Step("policy", full_name, State.MISSING, note, lambda: self._make_policy(name, guards))]
        if there == policy:
            return [Step("policy", full_name, State.THERE)]
        note = f"has another policy: `aws secretsmanager get-resource-policy --secret-id {full_name}`"
        return [Step("policy", full_name, State.DIFFERS, note)]

    def _tags(self) -> dict[str, str]:
        return {"application": "email-gateway", PREFIX_TAG: self._account.prefix}

    def _make_key(self) -> None:
        self._key_arn = make_key(self._account)

    def _make_alias(self) -> None:
        make_alias(self._account, self._key_arn)

    def _make_secret(self, name: SecretName) -> None:
        full_name = self._account.full_name(name)
        value = {"SecretString": make_value()} if name in GENERATED else {}
        self._account.make(
            "secretsmanager:CreateSecret",
            on=full_name,
            Name=full_name,
            Description=DESCRIPTIONS[name],
            KmsKeyId=self._account.kms_alias,
            Tags=[{"Key": key, "Value": text} for key, text in self._tags().items()],
            **value,
        )

    def _make_value(self, stored: StoredSecret) -> None:
        # With a token of its own Secrets Manager refuses another value under it: two runs make one.
        put_version(self._account, stored, make_value(), str(uuid.uuid5(FIRST_VERSION, stored.arn)))

    def _make_tags(self, stored: StoredSecret, missing: dict[str, str]) -> None:
        tags = [{"Key": key, "Value": value} for key, value in missing.items()]
        self._account.call("secretsmanager:TagResource", on=stored.full_name, SecretId=stored.arn, Tags=tags)

    def _make_policy(self, name: SecretName, guards: Guards) -> None:
        full_name = self._account.full_name(name)
        self._account.call(
            "secretsmanager:PutResourcePolicy",
            on=full_name,
            SecretId=full_name,
            ResourcePolicy=json.dumps(make_policy(name, guards)),
            BlockPublicPolicy=True,
        )
