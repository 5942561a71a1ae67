"""`email-gateway aws policy` and `aws trust`: the IAM documents of the three roles, for `aws iam create-policy` and `create-role`."""

import json
from typing import Annotated

import typer

from email_gateway.cli.connecting import load_without_keys
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import examples
from email_gateway.cli.printing import say
from email_gateway.operator.account import Account
from email_gateway.operator.kms_keys import find_key
from email_gateway.operator.roles import PLATFORMS, ROLES, Place, make_trust

app = typer.Typer()

KmsKey = Annotated[
    str | None,
    typer.Option(
        "--kms-key",
        metavar="ARN",
        help="The KMS key of the secrets, which also says account and region. (The one that the alias names)",
        show_default=False,
    ),
]


def role(text: str) -> str:
    """Read the name of a role; typer shows this function's name as the type."""
    if text not in ROLES:
        raise typer.BadParameter(f"there is no role of this name: {', '.join(ROLES)}")
    return text


def platform(text: str) -> str:
    """Read what the gateway runs on."""
    if text not in PLATFORMS:
        raise typer.BadParameter(f"there is no platform of this name: {', '.join(PLATFORMS)}")
    return text


@app.command(
    epilog=examples(
        "email-gateway aws policy reader",
        "email-gateway aws policy rotation --kms-key arn:aws:kms:us-east-1:123456789012:key/ID",
    )
)
def policy(
    name: Annotated[str, typer.Argument(metavar="ROLE", parser=role, help=f"The role: {', '.join(ROLES)}.")],
    kms_key: KmsKey = None,
) -> None:
    """Print what a role may do, as an IAM policy: what the code does, on our secrets and our KMS key, and nothing else.

    The reader is the gateway, the rotation function runs in Lambda, the administrator is who runs `email-gateway
    secrets`. gateway.yaml makes the same roles.
    """
    say(json.dumps(ROLES[name](find_place(kms_key)), indent=2))


@app.command(
    epilog=examples(
        "email-gateway aws trust ec2",
        "email-gateway aws trust eks-irsa --oidc-provider oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE",
    )
)
def trust(
    name: Annotated[
        str, typer.Argument(metavar="PLATFORM", parser=platform, help=f"What it runs on: {', '.join(PLATFORMS)}.")
    ],
    oidc_provider: Annotated[
        str | None,
        typer.Option(metavar="ISSUER", help="With eks-irsa: the cluster's OIDC issuer, without https://."),
    ] = None,
    kms_key: KmsKey = None,
) -> None:
    """Print who may take a role, as an IAM trust policy; on EKS the service account of kubernetes.yaml alone."""
    say(json.dumps(make_trust(name, find_place(kms_key), oidc_provider), indent=2))


def find_place(kms_key: str | None) -> Place:
    """Return where the secrets are: from the ARN of their key, else from the key that their alias names in AWS."""
    settings = load_without_keys()
    if kms_key is not None:
        return Place.of(kms_key, settings.secrets_prefix)
    account = Account.open(settings)
    found = find_key(account, account.kms_alias)
    if found is None:
        raise CommandFailed(
            f"there is no KMS key with the alias {account.kms_alias}",
            "make it with gateway.yaml or `email-gateway secrets init`, or name another with --kms-key",
        )
    return Place.of(found.arn, settings.secrets_prefix)
