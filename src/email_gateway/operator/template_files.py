"""The templates of this release: files that an operator takes as they are, CloudFormation, Kubernetes and systemd.

The first line of each says in a comment what it is; JSON, which has none, in its `description`.
"""

import json
from importlib.resources import files

from email_gateway.errors import OperationRefused

FOLDER = files("email_gateway.operator") / "templates"


def list_templates() -> dict[str, str]:
    """Return what each template is, by its file's name, in the order of the names."""
    return {
        file.name: _describe(file.name, file.read_text(encoding="utf-8")).rstrip(".")
        for file in sorted(FOLDER.iterdir(), key=lambda file: file.name)
        if file.is_file()
    }


def get_template(name: str) -> str:
    """Return the text of a template; raises OperationRefused where there is none of this name."""
    if name not in list_templates():
        raise OperationRefused(f"there is no template {name}", "`email-gateway aws template` lists them")
    return FOLDER.joinpath(name).read_text(encoding="utf-8")


def _describe(name: str, text: str) -> str:
    if name.endswith(".json"):
        return str(json.loads(text)["description"])
    return text.partition("\n")[0].removeprefix("# ")
