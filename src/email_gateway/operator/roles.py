"""What each of the three roles may do in AWS, and who may take one, as IAM policy documents.

The reader is the gateway, the rotation function changes two secrets, the administrator is who runs `email-gateway
secrets`. Each may do what the code does and nothing else. The template gateway.yaml says the same; a test compares.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from email_gateway.errors import OperationRefused
from email_gateway.operator.kms_keys import PREFIX_TAG
from email_gateway.operator.policies import DELETING, WRITING
from email_gateway.secrets.secret import SECRETS, SecretName

# Not China: there the services' own names end otherwise.
KEY_ARN = re.compile(r"arn:(aws|aws-us-gov):kms:([a-z0-9-]+):([0-9]{12}):key/[A-Za-z0-9-]+")
OIDC_PROVIDER = re.compile(r"[a-z0-9.-]+(/[A-Za-z0-9/_-]+)?")
NAMES = tuple(known.name for known in SECRETS)
ROTATED = (SecretName.ENCRYPTION_KEY, SecretName.ADMIN_API_KEY)
# The namespace and the service account of kubernetes.yaml.
NAMESPACE = SERVICE_ACCOUNT = "email-gateway"

Policy = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """What an ARN needs beside a name: partition, region, account, the prefix of the secrets and their KMS key."""

    partition: str
    region: str
    account: str
    prefix: str
    kms_key: str

    @classmethod
    def of(cls, kms_key: str, prefix: str) -> "Place":
        """Read where things are from the ARN of the KMS key; raises OperationRefused for anything else."""
        found = KEY_ARN.fullmatch(kms_key)
        if not found:
            raise OperationRefused(
                "this is no ARN of a KMS key",
                "it looks like arn:aws:kms:us-east-1:123456789012:key/ID;"
                " `aws kms describe-key --key-id alias/email-gateway` shows it",
            )
        return cls(found[1], found[2], found[3], prefix, kms_key)

    @property
    def function_name(self) -> str:
        """Return the name of the rotation function; Lambda allows no slashes and dots in it."""
        return f"{re.sub(r'[^A-Za-z0-9_-]', '-', self.prefix)}-rotation"

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def secrets(self, names: Iterable[SecretName]) -> list[str]:
        """Return the ARNs of secrets: AWS adds six characters of its own, and `*` would match other names too."""
        return [self.arn("secretsmanager", f"secret:{self.prefix}/{name}-??????") for name in names]


def make_reader(place: Place) -> Policy:
    """Return what every process of the gateway may do, and `doctor` where they run."""
    secrets = place.secrets(NAMES)
    return _policy(
        _allow("ReadSecrets", ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], secrets),
        _allow("DecryptSecrets", ["kms:Decrypt"], place.kms_key, _through_secrets_manager(place, secrets)),
        _allow("SeeKey", ["kms:DescribeKey"], place.kms_key),
    )


def make_rotation(place: Place) -> Policy:
    """Return what the rotation function may do: no salt, no URL, and not the network, which a VPC adds."""
    rotated, rotation_key = place.secrets(ROTATED), place.secrets([SecretName.ROTATION_KEY])
    return _policy(
        _allow(
            "RotateSecrets",
            [
                "secretsmanager:DescribeSecret",
                "secretsmanager:GetSecretValue",
                "secretsmanager:PutSecretValue",
                "secretsmanager:UpdateSecretVersionStage",
            ],
            rotated,
        ),
        _allow("ReadRotationKey", ["secretsmanager:GetSecretValue"], rotation_key),
        _allow(
            "DecryptSecrets",
            ["kms:Decrypt"],
            place.kms_key,
            _through_secrets_manager(place, [*rotated, *rotation_key]),
        ),
        _allow("EncryptNewValues", ["kms:GenerateDataKey"], place.kms_key, _through_secrets_manager(place, rotated)),
        _allow(
            "WriteLog",
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            place.arn("logs", f"log-group:/aws/lambda/{place.function_name}:*"),
        ),
    )


def make_administrator(place: Place) -> Policy:
    """Return what whoever runs `email-gateway secrets` may do, once the KMS key is there; never to delete that key."""
    secrets = place.secrets(NAMES)
    ours = place.arn("secretsmanager", f"secret:{place.prefix}/*")
    # Before it makes a secret, Secrets Manager tries the key with this in place of a version, and perhaps of the ARN.
    known = [*secrets, "RequestToValidateKeyAccess"]
    return _policy(
        _allow(
            "KeepSecrets",
            [
                "secretsmanager:CancelRotateSecret",
                *DELETING,
                "secretsmanager:DescribeSecret",
                "secretsmanager:GetResourcePolicy",
                "secretsmanager:GetSecretValue",
                "secretsmanager:ListSecretVersionIds",
                "secretsmanager:PutResourcePolicy",
                "secretsmanager:RestoreSecret",
                "secretsmanager:RotateSecret",
                *WRITING,
            ],
            secrets,
        ),
        # A secret that is not there yet has no six characters.
        _allow(
            "MakeSecrets",
            ["secretsmanager:CreateSecret"],
            ours,
            {"StringEquals": {"secretsmanager:Name": [f"{place.prefix}/{name}" for name in NAMES]}},
        ),
        _allow(
            "TagSecrets",
            ["secretsmanager:TagResource"],
            ours,
            {"ForAllValues:StringEquals": {"aws:TagKeys": ["application", PREFIX_TAG]}},
        ),
        _allow(
            "UseKey",
            ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"],
            place.kms_key,
            _through_secrets_manager(place, known),
        ),
        _allow("MendKey", ["kms:CancelKeyDeletion", "kms:DescribeKey", "kms:EnableKey"], place.kms_key),
        # RotateSecret asks for it in the caller's name.
        _allow("StartRotation", ["lambda:InvokeFunction"], place.arn("lambda", f"function:{place.function_name}")),
        _allow("ReadTrail", ["cloudtrail:LookupEvents"], "*"),  # it knows no resources
    )


ROLES: dict[str, Callable[[Place], Policy]] = {
    "reader": make_reader,
    "rotation": make_rotation,
    "administrator": make_administrator,
}


def make_trust(platform: str, place: Place, oidc_provider: str | None = None) -> Policy:
    """Return who may take a role: what runs on this platform, one of `PLATFORMS`.

    `oidc_provider` is the EKS cluster's issuer without https://, for IRSA. Raises OperationRefused without it.
    """
    return _policy(PLATFORMS[platform](place, oidc_provider))


def _trust_service(
    service: str, actions: str | list[str] = "sts:AssumeRole", condition: Policy | None = None
) -> Policy:
    statement = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": actions}
    return {**statement, "Condition": condition} if condition else statement


def _trust_tasks(place: Place, _provider: str | None) -> Policy:
    # Of this account's tasks only: ECS could be made to act for another (the confused deputy).
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
    condition = {
        "StringEquals": {"aws:SourceAccount": place.account},
        "ArnLike": {"aws:SourceArn": place.arn("ecs", "*")},
    }
    return _trust_service("ecs-tasks", condition=condition)


def _trust_pods(_place: Place, _provider: str | None) -> Policy:
    # https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
    tags = {
        "aws:RequestTag/kubernetes-namespace": NAMESPACE,
        "aws:RequestTag/kubernetes-service-account": SERVICE_ACCOUNT,
    }
    return _trust_service("pods.eks", ["sts:AssumeRole", "sts:TagSession"], {"StringEquals": tags})


def _trust_issuer(place: Place, provider: str | None) -> Policy:
    # https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
    if provider is None or not OIDC_PROVIDER.fullmatch(provider):
        raise OperationRefused(
            "IRSA needs the cluster's OIDC provider, without https://",
            "`aws eks describe-cluster --name CLUSTER --query cluster.identity.oidc.issuer` shows it; give it with"
            " --oidc-provider",
        )
    return {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:{place.partition}:iam::{place.account}:oidc-provider/{provider}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                f"{provider}:aud": "sts.amazonaws.com",
                f"{provider}:sub": f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}",
            }
        },
    }


PLATFORMS: dict[str, Callable[[Place, str | None], Policy]] = {
    "ec2": lambda _place, _provider: _trust_service("ec2"),
    "ecs": _trust_tasks,
    "lambda": lambda _place, _provider: _trust_service("lambda"),
    "eks-irsa": _trust_issuer,
    "eks-pod-identity": _trust_pods,
}


def _policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, actions: list[str], resources: str | list[str], condition: Policy | None = None) -> Policy:
    statement = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def _through_secrets_manager(place: Place, contexts: list[str]) -> Policy:
    """Bind the use of the KMS key to Secrets Manager, and to these secrets by the encryption context it sends.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
    """
    return {
        "StringEquals": {"kms:ViaService": f"secretsmanager.{place.region}.amazonaws.com"},
        "StringLike": {"kms:EncryptionContext:SecretARN": contexts},
    }
