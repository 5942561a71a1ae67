import json

import pytest

from email_gateway.errors import OperationRefused
from email_gateway.operator.policies import Guards, denies_deletion, make_policy, parse_role
from email_gateway.secrets.secret import SecretName

ROLE = "arn:aws:iam::123456789012:role/path/email-gateway-admin"
DENY = {"Effect": "Deny", "Action": "secretsmanager:DeleteSecret"}


@pytest.mark.parametrize("text", [ROLE, ROLE.replace("aws", "aws-us-gov"), ROLE.replace("aws", "aws-cn")])
def test_the_arn_of_a_role_is_taken(text: str) -> None:
    assert parse_role(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "admin",
        "*",
        ROLE.replace(":iam:", ":sts:"),
        ROLE.replace("role/", "user/"),
        ROLE + "\n",
        ROLE.replace("1", "*"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(OperationRefused, match="no ARN of an IAM role"):
        parse_role(text)


@pytest.mark.parametrize("name", SecretName)
def test_a_policy_fits_into_what_secrets_manager_takes(name: SecretName) -> None:
    longest = ROLE.replace("email-gateway-admin", "r" * 512)
    assert len(json.dumps(make_policy(name, Guards(longest, longest)))) < 20_480  # the limit of PutResourcePolicy


def test_one_role_may_be_both() -> None:
    (statement, _) = make_policy(SecretName.ENCRYPTION_KEY, Guards(ROLE, ROLE))["Statement"]
    assert statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"] == [ROLE]


@pytest.mark.parametrize(
    ("statements", "is_denied"),
    [
        ([], False),
        ([{**DENY, "Effect": "Allow"}], False),
        ([{**DENY, "Action": ["secretsmanager:PutSecretValue"]}], False),
        ([DENY], True),
        (DENY, True),  # a single statement need not be a list
        ([{**DENY, "Action": ["secretsmanager:*"]}], True),
    ],
)
def test_policies_of_others_that_deny_deletion_count(statements: object, is_denied: bool) -> None:
    assert denies_deletion({"Statement": statements}) is is_denied
    assert not denies_deletion(None)
