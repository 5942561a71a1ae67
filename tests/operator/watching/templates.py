"""The template as CloudFormation would have it: read by cfn-lint's own reader, references given values."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

FOLDER = Path(str(files("email_gateway.operator").joinpath("templates")))
WATCHING = FOLDER / "watching.yaml"
GATEWAY = "email-gateway"
ACCOUNT = "123456789012"
REGION = "us-east-1"
KEY_ID = "33ecbb4c-1ea9-42f5-880a-aef9b487d4df"
KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY_ID}"
GIVEN = {
    "Gateway": GATEWAY,
    "KeyArn": KEY_ARN,
    "MostDeadLetters": "0",
    "MostQueueAgeSeconds": "900",
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
}


@cache
def resources() -> Mapping[str, Any]:
    """The resources of the template by name, with every reference resolved."""
    template, _ = decode(str(WATCHING))
    found: Mapping[str, Any] = resolve(template["Resources"])
    return found


def of_type(kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in resources().items() if each["Type"] == kind}


def dashboard() -> Any:
    (board,) = of_type("AWS::CloudWatch::Dashboard").values()
    return json.loads(board["DashboardBody"])


def resolve(node: Any) -> Any:
    """Return the node with the intrinsic functions that the template uses carried out."""
    if isinstance(node, list):
        return [resolve(each) for each in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        (function, argument), *_ = node.items()
        match function:
            case "Ref":
                return GIVEN.get(argument, argument)
            case "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda named: GIVEN.get(named[1], named[1]), argument)
            case "Fn::GetAtt":
                return argument if isinstance(argument, str) else ".".join(argument)
            case "Fn::Split":
                return resolve(argument[1]).split(argument[0])
            case "Fn::Select":
                return resolve(argument[1])[int(argument[0])]
    return {str(name): resolve(value) for name, value in node.items()}
