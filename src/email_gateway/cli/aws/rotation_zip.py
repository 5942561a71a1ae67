"""`email-gateway aws rotation-zip`: the rotation function, packed for Lambda."""

import hashlib
import io
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.options import AsJson, examples
from email_gateway.cli.printing import print_json, say

app = typer.Typer()

ROTATION_HANDLER = "email_gateway.aws.rotation.handler"
PACKAGE = "email_gateway"
ROOM = "aws"
READABLE = 0o644 << 16  # Lambda reads the files as another user
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can hold
NEXT_STEP = """\
next:  aws lambda create-function --function-name email-gateway-rotation --zip-file fileb://{path} \\
         --handler {handler} --runtime python3.12 --timeout 90 \\
         --environment Variables={{GATEWAY_URL=https://mail.example.com}} --role ROLE_ARN
       (python3.12 or newer; permissions: `email-gateway aws policy rotation`; the rest: docs/rotation.md)"""


@app.command(
    epilog=examples("email-gateway aws rotation-zip", "email-gateway aws rotation-zip --output build/rotation.zip")
)
def rotation_zip(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the zip.")] = Path("rotation.zip"),
    as_json: AsJson = False,
) -> None:
    """Write the Lambda function that rotates the encryption key and the admin key.

    The same release writes the same bytes everywhere, so a digest tells whether the function is up to date.
    """
    packed = pack_rotation_function()
    try:
        output.write_bytes(packed)
    except OSError as error:
        raise CommandFailed(f"cannot write {output}: {error.strerror}", "choose another place with --output") from None
    digest = hashlib.sha256(packed).hexdigest()
    if as_json:
        print_json({"path": str(output), "sha256": digest, "handler": ROTATION_HANDLER})
    else:
        say(f"{output}  (SHA-256 {digest})\nhandler: {ROTATION_HANDLER}")
        say(NEXT_STEP.format(path=output, handler=ROTATION_HANDLER))


def pack_rotation_function() -> bytes:
    """Return the zip: the package's `__init__.py` and the room `aws`, read as files and never imported."""
    package = files(PACKAGE)
    sources = sorted(
        (f"{PACKAGE}/{ROOM}/{file.name}", file)
        for file in package.joinpath(ROOM).iterdir()
        if file.name.endswith(".py")
    )
    packed = io.BytesIO()
    # Stored, not compressed: the bytes that zlib makes differ between its releases.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, file in [(f"{PACKAGE}/__init__.py", package.joinpath("__init__.py")), *sources]:
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.create_system = 3  # Unix, wherever it is written, so that the mode below counts
            entry.external_attr = READABLE
            archive.writestr(entry, file.read_bytes())
    return packed.getvalue()
