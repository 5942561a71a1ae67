"""`email-gateway secrets verify`: is everything there, readable, right and young enough."""

from dataclasses import asdict

import typer

from email_gateway.cli.exits import FAILED
from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.cli.secrets.account import open_account, showing
from email_gateway.operator.verifying import Checked, Verdict, Verified
from email_gateway.operator.verifying import verify as verify_account

app = typer.Typer()


@app.command(epilog=examples("email-gateway secrets verify", "email-gateway secrets verify --json"))
def verify(as_json: AsJson = False) -> None:
    """Look at the KMS key and every secret, and say what is to be done.

    Each is there, readable, of the right form, under the right KMS key, young enough (key and salt 90 days,
    admin key 60), not about to be deleted and in no rotation that hangs. Nothing is changed and no value
    shown. The exit code is 1 when something must be done now.
    """
    account = open_account()
    with showing("looking at", quiet=as_json) as show:
        found = verify_account(account, show)
    if as_json:
        print_json(_as_plain(found))
    else:
        _print(found)
    if found.verdict == Verdict.ACT:
        raise typer.Exit(FAILED)


def _as_plain(found: Verified) -> dict[str, object]:
    secrets = [{**asdict(each), "verdict": each.verdict} for each in found.secrets]
    return {**asdict(found), "secrets": secrets, "verdict": found.verdict}


def _print(found: Verified) -> None:
    key = f"{found.kms_key.arn.rpartition('/')[2]}, {found.kms_key.state}" if found.kms_key else "not seen"
    say(f"caller   {found.caller}\nregion   {found.region}\nKMS key  {found.kms_alias} ({key})\n")
    rows = [_row(each) for each in found.secrets]
    print_table("Secrets", ["secret", "", "form", "KMS key", "policy", "age", "rotation"], rows)
    print_table("Versions", ["secret", "version", "labels"], _list_versions(found))
    print_table("What you may do", ["permission", ""], sorted(found.permissions.items()))
    if not found.remarks:
        say("nothing is to be done")
        return
    # No table: a command that is broken over lines cannot be copied.
    for verdict, title in ((Verdict.ACT, "to be done now"), (Verdict.ADVICE, "worth doing")):
        remarks = [remark for remark in found.remarks if remark.verdict == verdict]
        if remarks:
            say(f"\n{title}:")
        for remark in remarks:
            say(f"  {remark.about}: {remark.problem}\n      {remark.next_step}")


def _row(each: Checked) -> tuple[object, ...]:
    if not each.is_there:
        return (each.name, "optional" if not each.remarks else each.verdict, *[None] * 5)
    age = None if each.age is None else f"{each.age.days} d" + (f" of {each.most_age.days}" if each.most_age else "")
    rotation = f"{each.next_rotation_at:%Y-%m-%d}" if each.next_rotation_at else "on" if each.rotation else "by hand"
    return (each.name, each.verdict, each.has_right_form, each.has_right_kms_key, each.is_guarded, age, rotation)


def _list_versions(found: Verified) -> list[tuple[object, ...]]:
    return [
        (each.name, version, tuple(sorted(labels)))
        for each in found.secrets
        for version, labels in sorted(each.labels.items(), key=lambda item: min(item[1], default="~"))
    ]
