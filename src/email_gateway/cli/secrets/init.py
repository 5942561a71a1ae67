"""`email-gateway secrets init`: make what is missing, and nothing else."""

from typing import Annotated

import typer

from email_gateway.cli.exits import FAILED
from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, say
from email_gateway.cli.secrets.account import open_account, secret, showing
from email_gateway.cli.secrets.steps import as_plain, make_all, print_steps
from email_gateway.operator.making import State, Wanted, plan
from email_gateway.operator.policies import Guards, parse_role
from email_gateway.secrets.secret import SECRETS, SecretName

app = typer.Typer()

TITLE = "Secrets and what they need"
OPTIONAL = ", ".join(known.name for known in SECRETS if not known.is_critical)


@app.command(
    epilog=examples(
        "email-gateway secrets init --dry-run",
        "email-gateway secrets init rotation-key smtp-url \\\n"
        "    --administrator arn:aws:iam::123456789012:role/email-gateway-admin \\\n"
        "    --rotation arn:aws:iam::123456789012:role/email-gateway-rotation",
    )
)
def init(
    names: Annotated[
        list[SecretName] | None,
        typer.Argument(
            metavar="[NAME]...",
            parser=secret,
            help=f"Optional secrets to make as well: {OPTIONAL}.",
            show_default=False,
        ),
    ] = None,
    administrator: Annotated[
        str | None,
        typer.Option(metavar="ROLE_ARN", help="The role that may delete and write secrets.", show_default=False),
    ] = None,
    rotation: Annotated[
        str | None,
        typer.Option(metavar="ROLE_ARN", help="The rotation function's role, which may too.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the KMS key and its alias, the secrets with random values, their tags and policies.

    What is there stays as it is, so it can be run again at any time: after it was killed, or over an account
    that somebody began to set up. Values come from the operating system and are shown nowhere; those of URLs
    are yours to store. With the two roles, each secret gets a resource policy that denies everybody else
    its deletion and another value. The exit code is 1 when something is there that it will not change.
    """
    account = open_account()
    wanted = Wanted.of(names or (), _read_guards(administrator, rotation))
    with showing("looking", quiet=as_json):
        steps = plan(account, wanted)
    if not dry_run:
        make_all(TITLE, steps, quiet=as_json)
    if as_json:
        print_json({"region": account.region, "dry_run": dry_run, "steps": as_plain(steps, is_done=not dry_run)})
    else:
        print_steps(TITLE, steps, is_done=not dry_run)
        _say_next(has_guards=wanted.guards is not None, is_dry=dry_run)
    if any(step.state in (State.DIFFERS, State.WAITS) for step in steps):
        raise typer.Exit(FAILED)


def _read_guards(administrator: str | None, rotation: str | None) -> Guards | None:
    if administrator is None and rotation is None:
        return None
    if administrator is None or rotation is None:
        raise typer.BadParameter("give both --administrator and --rotation, or neither")
    return Guards(parse_role(administrator), parse_role(rotation))


def _say_next(*, has_guards: bool, is_dry: bool) -> None:
    if not has_guards:
        say("no policies: give --administrator and --rotation to deny others deletion and other values")
    say("nothing was changed: this is the plan" if is_dry else "next:  email-gateway secrets verify")
