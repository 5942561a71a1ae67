"""The resource policy of a secret: nobody but two roles deletes it or gives it another value.

It denies, so it holds whatever an identity's own policy allows. It leaves PutResourcePolicy and
DeleteResourcePolicy alone: with a role that was deleted or misspelt nobody could ever mend it.
"""

import re
from dataclasses import dataclass
from typing import Any

from email_gateway.errors import OperationRefused
from email_gateway.secrets.secret import SecretName

ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}")
DELETING = ["secretsmanager:DeleteSecret"]
WRITING = [
    "secretsmanager:PutSecretValue",
    "secretsmanager:UpdateSecret",
    "secretsmanager:UpdateSecretVersionStage",
]
# AWS's own rotation of database passwords writes this one under a role that we do not know.
WRITTEN_BY_OTHERS = (SecretName.DATABASE_URL,)


@dataclass(frozen=True, slots=True)
class Guards:
    """Who may delete and write the secrets: the administrator's role, and the rotation function's."""

    administrator: str
    rotation: str


def parse_role(text: str) -> str:
    """Take the ARN of an IAM role; raises OperationRefused for anything else, such as that of a session."""
    if not ROLE.fullmatch(text):
        raise OperationRefused(
            "this is no ARN of an IAM role",
            "it looks like arn:aws:iam::123456789012:role/NAME; `aws iam get-role --role-name NAME` shows it",
        )
    return text


def make_policy(name: SecretName, guards: Guards) -> dict[str, Any]:
    """Return the policy of one secret."""
    statements = [_deny("DenyDeletion", DELETING, guards)]
    if name not in WRITTEN_BY_OTHERS:
        statements.append(_deny("DenyOtherValues", WRITING, guards))
    return {"Version": "2012-10-17", "Statement": statements}


def denies_deletion(policy: dict[str, Any] | None) -> bool:
    """Tell whether a policy, ours or another's, denies DeleteSecret to at least somebody."""
    statements = (policy or {}).get("Statement", [])
    for statement in [statements] if isinstance(statements, dict) else statements:
        actions = statement.get("Action", [])
        named = [actions] if isinstance(actions, str) else actions
        if statement.get("Effect") == "Deny" and {*DELETING, "secretsmanager:*", "*"} & set(named):
            return True
    return False


def _deny(sid: str, actions: list[str], guards: Guards) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Resource": "*",
        # Of a session this key holds the role's own ARN, not the session's.
        "Condition": {"ArnNotEquals": {"aws:PrincipalArn": sorted({guards.administrator, guards.rotation})}},
    }
