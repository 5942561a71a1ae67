"""The three roles: what an evaluator and cloudsplaining find that they may do, and nothing beyond it."""

import json
import logging
import re
from importlib.resources import files
from typing import Any

import pytest
from botocore.session import get_session

from email_gateway.errors import OperationRefused
from email_gateway.operator.policies import DELETING, WRITING, Guards, make_policy
from email_gateway.operator.roles import NAMES, PLATFORMS, ROLES, ROTATED, Place, make_trust
from email_gateway.secrets.secret import SecretName
from tests.operator.iam_evaluator import Request, is_allowed

KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
PLACE = Place.of(KEY, "email-gateway")
ROLE_ARNS = {name: f"arn:aws:iam::123456789012:role/email-gateway-{name}" for name in ROLES}
GUARDS = Guards(administrator=ROLE_ARNS["administrator"], rotation=ROLE_ARNS["rotation"])
OTHER_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:payroll/encryption-key-AbCdEf"
ISSUER = "oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE"

ACTIONS = {
    service: [f"{service}:{operation}" for operation in get_session().get_service_model(service).operation_names]
    for service in ("secretsmanager", "kms", "iam")
}
READING = {"secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"}
ROTATING = {*READING, "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"}


def arn_of(name: SecretName) -> str:
    return f"arn:aws:secretsmanager:us-east-1:123456789012:secret:email-gateway/{name}-AbCdEf"


def can(role: str, action: str, resource: str, **context: str) -> bool:
    """Ask the role's policy, and where a secret is meant its resource policy as well."""
    policies = [ROLES[role](PLACE), *(make_policy(name, GUARDS) for name in NAMES if resource == arn_of(name))]
    keys: dict[str, Any] = {
        "aws:PrincipalArn": ROLE_ARNS[role],
        **{key.replace("__", ":"): value for key, value in context.items()},
    }
    return is_allowed(Request(action, resource, keys), *policies)


def can_use_key(role: str, action: str, context_arn: str, service: str = "secretsmanager") -> bool:
    keys = {"kms:ViaService": f"{service}.us-east-1.amazonaws.com", "kms:EncryptionContext:SecretARN": context_arn}
    return is_allowed(Request(action, KEY, keys), ROLES[role](PLACE))


@pytest.mark.parametrize("name", NAMES)
def test_the_reader_reads_every_secret_and_does_nothing_else_with_it(name: SecretName) -> None:
    assert {action for action in ACTIONS["secretsmanager"] if can("reader", action, arn_of(name))} == READING
    assert {action for action in ACTIONS["kms"] if can_use_key("reader", action, arn_of(name))} == {
        "kms:Decrypt",
        "kms:DescribeKey",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_function_changes_two_secrets_reads_its_own_key_and_sees_no_other(name: SecretName) -> None:
    allowed = {action for action in ACTIONS["secretsmanager"] if can("rotation", action, arn_of(name))}
    key_use = {action for action in ACTIONS["kms"] if can_use_key("rotation", action, arn_of(name))}
    if name in ROTATED:
        assert (allowed, key_use) == (ROTATING, {"kms:Decrypt", "kms:GenerateDataKey"})
    elif name is SecretName.ROTATION_KEY:
        assert (allowed, key_use) == ({"secretsmanager:GetSecretValue"}, {"kms:Decrypt"})
    else:
        assert (allowed, key_use) == (set(), set())


@pytest.mark.parametrize("name", NAMES)
def test_only_the_administrator_deletes(name: SecretName) -> None:
    deleters = [role for role in ROLES for action in DELETING if can(role, action, arn_of(name))]
    assert deleters == ["administrator"]


@pytest.mark.parametrize("name", NAMES)
def test_somebody_who_may_do_anything_neither_deletes_nor_writes(name: SecretName) -> None:
    anything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for action in [*DELETING, *(WRITING if name is not SecretName.DATABASE_URL else [])]:
        request = Request(action, arn_of(name), {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/powerful"})
        assert is_allowed(request, anything)
        assert not is_allowed(request, anything, make_policy(name, GUARDS))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reaches_what_is_not_ours(role: str) -> None:
    assert not [action for action in ACTIONS["secretsmanager"] if can(role, action, OTHER_SECRET)]
    longer_name = arn_of(SecretName.ENCRYPTION_KEY).replace("encryption-key", "encryption-key-old")
    assert not [action for action in READING if can(role, action, longer_name)]
    own_key_use = [action for action in ACTIONS["kms"] if can_use_key(role, action, OTHER_SECRET)]
    assert not {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"} & set(own_key_use)
    assert not [action for action in ACTIONS["kms"] if can(role, action, KEY.replace("1111", "9999"))]
    assert not [action for action in ACTIONS["iam"] if can(role, action, ROLE_ARNS["reader"])]


@pytest.mark.parametrize("role", ROLES)
def test_the_key_is_used_through_secrets_manager_alone_and_deleted_by_nobody(role: str) -> None:
    context = arn_of(SecretName.ENCRYPTION_KEY)
    assert can_use_key(role, "kms:Decrypt", context)
    assert not can_use_key(role, "kms:Decrypt", context, service="s3")
    assert not can(role, "kms:Decrypt", KEY)
    for action in ("kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy", "kms:CreateGrant"):
        assert not can(role, action, KEY)
        assert not can_use_key(role, action, context)


def test_the_administrator_makes_secrets_of_our_names_only() -> None:
    def may_make(name: str, **tags: Any) -> bool:
        resource = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}"
        makes = Request("secretsmanager:CreateSecret", resource, {"secretsmanager:Name": name})
        marks = Request("secretsmanager:TagResource", resource, tags)
        policy = ROLES["administrator"](PLACE)
        return is_allowed(makes, policy) and is_allowed(marks, policy)

    assert may_make("email-gateway/smtp-url", **{"aws:TagKeys": ["application", "email-gateway:prefix"]})
    assert not may_make("email-gateway/smtp-url", **{"aws:TagKeys": ["owner"]})
    assert not may_make("email-gateway/other")
    assert not may_make("payroll/smtp-url")
    # What Secrets Manager tries the key with, before the secret has an ARN.
    assert can_use_key("administrator", "kms:GenerateDataKey", "RequestToValidateKeyAccess")


# What the operator's commands ask for, read from their source, once the key is there and has its alias.
MAKING_A_KEY = {"kms:CreateKey", "kms:CreateAlias", "kms:ListKeys", "kms:ListResourceTags"}
ASKED_OF_NOBODY = {"sts:GetCallerIdentity"}  # needs no permission


def test_the_administrator_may_do_what_the_commands_do() -> None:
    folder = files("email_gateway.operator")
    sources = "".join(
        file.read_text()
        for file in folder.iterdir()
        if file.name.endswith(".py") and file.name not in ("roles.py", "policies.py")
    )
    asked = set(re.findall(r'"((?:secretsmanager|kms|sts|cloudtrail):[A-Za-z]+)"', sources))
    assert len(asked) > 12
    for action in asked - MAKING_A_KEY - ASKED_OF_NOBODY:
        granted = [
            statement for statement in ROLES["administrator"](PLACE)["Statement"] if action in statement["Action"]
        ]
        assert granted, action


def findings(policy: dict[str, Any]) -> dict[str, Any]:
    """What cloudsplaining finds in a policy, by kind, also in statements that have conditions."""
    logging.getLogger("cloudsplaining").setLevel(logging.ERROR)
    from cloudsplaining.scan.policy_document import PolicyDocument

    scanned = PolicyDocument(policy, flag_conditional_statements=True)
    found = {
        "escalation": scanned.allows_privilege_escalation,
        "permissions": scanned.permissions_management_without_constraints,
        "writes": scanned.write_actions_without_constraints,
        "tags": scanned.tagging_actions_without_constraints,
        "wildcards": scanned.service_wildcard,
        "exfiltration": scanned.allows_data_exfiltration_actions,
        "credentials": scanned.credentials_exposure,
    }
    return {kind: each for kind, each in found.items() if each}


@pytest.mark.parametrize("role", ROLES)
def test_cloudsplaining_finds_nothing(role: str) -> None:
    assert findings(ROLES[role](PLACE)) == {}


def test_cloudsplaining_finds_what_is_not_bound_to_a_resource() -> None:
    loose = {"Effect": "Allow", "Action": ["secretsmanager:*", "kms:Decrypt"], "Resource": "*"}
    assert {"permissions", "writes", "wildcards", "exfiltration"} <= set(
        findings({"Version": "2012-10-17", "Statement": [loose]})
    )


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_fits_into_what_iam_takes(role: str) -> None:
    longest = Place.of(KEY.replace("us-east-1", "ap-southeast-99"), "p" * 40)
    # Of a managed policy, without white space.
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    assert len(json.dumps(ROLES[role](longest), separators=(",", ":"))) <= 6144


@pytest.mark.parametrize(
    ("platform", "principal"),
    [
        ("ec2", {"Service": "ec2.amazonaws.com"}),
        ("ecs", {"Service": "ecs-tasks.amazonaws.com"}),
        ("lambda", {"Service": "lambda.amazonaws.com"}),
        ("eks-irsa", {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{ISSUER}"}),
        ("eks-pod-identity", {"Service": "pods.eks.amazonaws.com"}),
    ],
)
def test_each_platform_may_take_the_role(platform: str, principal: dict[str, str]) -> None:
    (statement,) = make_trust(platform, PLACE, ISSUER)["Statement"]
    assert statement["Principal"] == principal
    assert "*" not in json.dumps([statement["Principal"], statement["Action"]])


def test_every_platform_is_tested() -> None:
    (marker,) = (mark for mark in test_each_platform_may_take_the_role.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert {name for name, _ in marker.args[1]} == set(PLATFORMS)


def test_on_eks_one_service_account_may_take_it() -> None:
    (irsa,) = make_trust("eks-irsa", PLACE, ISSUER)["Statement"]
    assert irsa["Condition"]["StringEquals"] == {
        f"{ISSUER}:aud": "sts.amazonaws.com",
        f"{ISSUER}:sub": "system:serviceaccount:email-gateway:email-gateway",
    }


@pytest.mark.parametrize("provider", [None, "", f"https://{ISSUER}", "a b"])
def test_irsa_needs_the_issuer(provider: str | None) -> None:
    with pytest.raises(OperationRefused, match="without https://"):
        make_trust("eks-irsa", PLACE, provider)


@pytest.mark.parametrize(
    "text", ["", "alias/email-gateway", KEY.replace("key/", "alias/"), KEY.replace("aws:", "aws-cn:"), KEY + "\n"]
)
def test_what_is_no_arn_of_a_key_is_refused(text: str) -> None:
    with pytest.raises(OperationRefused, match="no ARN of a KMS key"):
        Place.of(text, "email-gateway")
