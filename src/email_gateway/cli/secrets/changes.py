"""`email-gateway secrets rotate | rollback | set`: another value, with what follows from it."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, say, show_duration
from email_gateway.cli.secrets.account import AbandonPending, Name, open_account, read_text, showing
from email_gateway.operator.changing import PATIENCE, Changed, roll_back, set_value
from email_gateway.operator.changing import rotate as rotate_secret
from email_gateway.secrets.secret import SecretName

app = typer.Typer()

ROOT = (
    "the first process that reads it wraps every data key under the new root key, then the others follow:\n"
    "       nothing is sealed anew and all mail stays readable. Afterwards: `email-gateway keys verify`"
)
ROOT_BACK = (
    "the root key of that version is active again; data keys made meanwhile get their wraps first, so that\n"
    "       mail sealed since stays readable. Nothing is sealed anew, and no version is deleted"
)
ADMIN = (
    "the admin key before opens /admin for ten more minutes. If it has leaked, end it at once:\n"
    "       `email-gateway secrets refresh --revoke-previous`"
)
URL = "new connections use it and old ones finish; one that does not work changes nothing, and the log says so"
ROTATION = "the rotation function and the gateway read the same secret; a rotation under way is tried again"
EFFECTS = {
    SecretName.ENCRYPTION_KEY: ROOT,
    SecretName.ENCRYPTION_SALT: ROOT,
    SecretName.ADMIN_API_KEY: ADMIN,
    SecretName.ROTATION_KEY: ROTATION,
}
EFFECTS_OF_ROLLBACK = {**EFFECTS, SecretName.ENCRYPTION_KEY: ROOT_BACK, SecretName.ENCRYPTION_SALT: ROOT_BACK}


@app.command(
    epilog=examples("email-gateway secrets rotate encryption-key", "email-gateway secrets rotate admin-api-key --json")
)
def rotate(
    name: Name,
    abandon_pending: AbandonPending = False,
    wait: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, max=3600, help="How long to wait for the rotation function.")
    ] = int(PATIENCE.total_seconds()),
    as_json: AsJson = False,
) -> None:
    """Give a secret another random value: by its rotation function when it has one, else from here.

    A rotation that has begun and not ended is not abandoned unless you say so: another value would end it in
    silence, and its function would fail. The version before stays, and `rollback` goes back to it.
    """
    with showing(f"rotating {name}", quiet=as_json) as show:
        changed = rotate_secret(
            open_account(),
            name,
            abandons_pending=abandon_pending,
            patience=timedelta(seconds=wait),
            report=lambda waited: show(f"the function is at work, for {show_duration(waited)}"),
        )
    _tell("rotated by its function" if changed.by_function else "rotated", changed, EFFECTS, as_json)


@app.command(epilog=examples("email-gateway secrets rollback admin-api-key"))
def rollback(name: Name, abandon_pending: AbandonPending = False, as_json: AsJson = False) -> None:
    """Make the version before the current one current again, and say what the gateway then does.

    The label AWSCURRENT moves to the version with AWSPREVIOUS, which is validated first. No version is
    deleted: the same command once more goes forward again.
    """
    changed = roll_back(open_account(), name, abandons_pending=abandon_pending)
    _tell("rolled back", changed, EFFECTS_OF_ROLLBACK, as_json)


@app.command(
    "set",
    epilog=examples(
        "email-gateway secrets set smtp-url --from-file smtp-url.txt",
        "pass show smtp-url | email-gateway secrets set smtp-url --from-file -",
    ),
)
def set_from_file(
    name: Name,
    from_file: Annotated[
        Path, typer.Option("--from-file", metavar="PATH", help="The file with the value alone; `-` reads a pipe.")
    ],
    abandon_pending: AbandonPending = False,
    as_json: AsJson = False,
) -> None:
    """Store a value from a file or a pipe, once it has passed the validation that the gateway itself uses.

    White space at both ends does not count. The value that is stored already is refused, as is what the
    gateway would not take: a JSON object, quotes, a placeholder, a key that is the salt. Delete the file
    afterwards (`shred -u`).
    """
    text = read_text(from_file)
    changed = set_value(open_account(), name, text, abandons_pending=abandon_pending)
    _tell("stored", changed, EFFECTS, as_json)


def _tell(word: str, changed: Changed, effects: dict[SecretName, str], as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "name": changed.name,
                "done": word,
                "version_id": changed.version_id,
                "former_version_id": changed.former_version_id,
                "by_function": changed.by_function,
                "unpinned": changed.unpinned,
            }
        )
        return
    say(f"{changed.name} {word}")
    say(f"       current version  {changed.version_id}")
    say(f"       the one before   {changed.former_version_id or '-'}")
    say(f"then:  {effects.get(changed.name, URL)}")
    for version in changed.unpinned:
        say(f"note:  version {version} has no label, so Secrets Manager may prune it after a hundred others;")
        say("       allow secretsmanager:UpdateSecretVersionStage, or keep the value in your safe")
    if not changed.by_function:
        say("next:  `email-gateway secrets refresh` has every process read it now, not within five minutes")
