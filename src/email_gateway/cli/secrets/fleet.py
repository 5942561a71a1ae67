"""`email-gateway secrets refresh | status`: what the processes of the fleet hold, by the admin API."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from email_gateway.cli.calling import Gateway
from email_gateway.cli.connecting import find_api_url, load_with_keys, load_without_keys
from email_gateway.cli.exits import FAILED
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table, say
from email_gateway.cli.secrets.account import read_text, showing
from email_gateway.errors import ConfigurationError, OperationRefused, Unauthorized
from email_gateway.operator.account import Account
from email_gateway.operator.stored import PREVIOUS, get_known, get_stored, read_version
from email_gateway.secrets.secret import SecretName
from email_gateway.secrets.source import CURRENT
from email_gateway.settings import Settings

app = typer.Typer()

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="The gateway, such as https://mail.example.com. (Default: the one of this machine)"
    ),
]
AdminKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="A file with the admin key; `-` reads a pipe. (Default: read from where the gateway does)"
    ),
]


@app.command(epilog=examples("email-gateway secrets refresh", "email-gateway secrets refresh --revoke-previous"))
def refresh(
    revoke_previous: Annotated[
        bool, typer.Option("--revoke-previous", help="End every admin key but the current one, everywhere, for good.")
    ] = False,
    url: Url = None,
    admin_key_file: AdminKeyFile = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Have every process of the fleet read its secrets again now, and say who followed.

    Any one process is asked; the others hear of it through the database. It waits up to five seconds, and
    the exit code is 1 when a process has not followed. One request in ten seconds; revoking is never held up.
    """
    wish = {"revoke_previous": revoke_previous}
    with showing("waiting for every process", quiet=as_json):
        told = _ask(url, home, admin_key_file, lambda gateway: gateway.post("/admin/secrets/refresh", wish))
    if as_json:
        print_json(told)
    else:
        _print_processes(told["instances"])
        if told["revoked"]:
            say(f"ended admin keys: {', '.join(told['revoked'])}")
        say(
            "every process has followed"
            if told["complete"]
            else "not every process has followed: run it again, or see its log"
        )
    if not told["complete"]:
        raise typer.Exit(FAILED)


@app.command(
    epilog=examples("email-gateway secrets status", "email-gateway secrets status --url https://mail.example.com")
)
def status(url: Url = None, admin_key_file: AdminKeyFile = None, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show each secret as the gateway holds it, and which versions each process holds.

    Versions, ages and errors, never a value. The exit code is 1 when a secret could not be read lately or a
    process has not followed the last refresh.
    """
    told = _ask(url, home, admin_key_file, lambda gateway: gateway.get("/admin/secrets"))
    if as_json:
        print_json(told)
    else:
        rows = [
            (
                each["name"],
                each["version_id"],
                f"{each['age_seconds']:.0f} s",
                each["stale"],
                each["last_error"],
            )
            for each in told["data"]
        ]
        print_table("Secrets of the process that answered", ["secret", "version", "read", "stale", "last error"], rows)
        _print_processes(told["instances"])
    if any(each["last_error"] for each in told["data"]) or not all(each["acknowledged"] for each in told["instances"]):
        raise typer.Exit(FAILED)


def _print_processes(instances: list[dict[str, Any]]) -> None:
    rows = [
        (
            name_of(each),
            each["host"],
            each["acknowledged"],
            ", ".join(f"{name}: {why}" for name, why in each["failures"].items()) or None,
        )
        for each in instances
    ]
    print_table("Processes", ["process", "host", "followed", "cannot read"], rows)
    print_table("What they hold", ["secret", "version", "held by"], _list_holders(instances))


def _list_holders(instances: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return who holds each version: one row for a secret on which all agree."""
    holders: dict[tuple[str, str], list[str]] = {}
    for name in SecretName:
        for each in instances:
            if version := each["versions"].get(name):
                holders.setdefault((name, version), []).append(name_of(each))
    is_all = len(instances)
    return [
        (name, version, "all" if len(who) == is_all else ", ".join(who)) for (name, version), who in holders.items()
    ]


def name_of(instance: dict[str, Any]) -> str:
    """Return what operators call a process."""
    return f"{instance['process']} {instance['pid']}"


def _ask(url: str | None, home: Path | None, key_file: Path | None, ask: Callable[[Gateway], Any]) -> Any:
    """Ask with the first admin key that the gateway takes."""
    address = url or find_api_url(home)
    refused: Unauthorized | None = None
    for key in _list_admin_keys(home, key_file):
        try:
            return ask(Gateway(address, admin_key=key))
        except Unauthorized as error:
            refused = error
    raise OperationRefused(
        f"the gateway takes no admin key that is at hand ({refused or 'there is none'})",
        "give it in a file with --admin-key-file; `email-gateway secrets verify` looks at the one in Secrets Manager",
    )


def _list_admin_keys(home: Path | None, key_file: Path | None) -> Iterator[str]:
    """Yield the admin keys that the gateway may hold, the likeliest first.

    Right after a rotation it still holds the version before: it is this refresh that changes that.
    """
    known = get_known(SecretName.ADMIN_API_KEY)
    if key_file is not None:
        yield read_text(key_file).strip()
        return
    settings = load_without_keys()
    if not settings.use_secrets_manager and (local := _find_local_key(home)) is not None:
        yield local
        return
    account = Account.open(settings)
    stored = get_stored(account, SecretName.ADMIN_API_KEY)
    for label, version_id in ((CURRENT, stored.current), (PREVIOUS, stored.previous)):
        if version_id is None:
            continue
        try:
            yield known.read_stored(read_version(account, stored, label).text)
        except ValueError:
            continue  # the gateway has refused it too, and holds another one


def _find_local_key(home: Path | None) -> str | None:
    """Return the admin key of the environment or of an `up`, where Secrets Manager is off."""
    try:
        settings: Settings = load_with_keys(home)
    except ConfigurationError:
        return None
    return settings.admin_api_key
