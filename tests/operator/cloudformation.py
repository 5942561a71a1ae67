"""CloudFormation templates as a stack would see them: short forms read, conditions decided, parameters put in."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from email_gateway.operator.template_files import get_template

ACCOUNT, REGION = "123456789012", "us-east-1"
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::StackName": "stack"}
GONE = object()  # what AWS::NoValue leaves


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # it ships no types
    """Knows the short forms: `!Ref X` is `{"Ref": "X"}`, `!GetAtt A.B` is `{"Fn::GetAtt": ["A", "B"]}`."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = node.value.split(".", 1) if suffix == "GetAtt" else node.value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


@dataclass
class Stack:
    """A template with its parameters; `attributes` are what resources would have, by `Name` and `Name.Attribute`."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.template: dict[str, Any] = yaml.load(get_template(self.name), _Loader)
        defaults = {name: str(each.get("Default", "")) for name, each in self.template["Parameters"].items()}
        self.values = {**PSEUDO, **defaults, **self.parameters}

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources that this stack makes, resolved."""
        return {
            name: {**resource, "Properties": self.resolve(resource.get("Properties", {}))}
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource or self.holds({"Condition": resource["Condition"]})
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type, by name."""
        return {name: each["Properties"] for name, each in self.resources.items() if each["Type"] == kind}

    def holds(self, condition: Any) -> bool:
        """Decide a condition."""
        match condition:
            case {"Condition": name}:
                return self.holds(self.template["Conditions"][name])
            case {"Fn::Not": [inner]}:
                return not self.holds(inner)
            case {"Fn::Equals": [left, right]}:
                return bool(self.resolve(left) == self.resolve(right))
        raise AssertionError(f"no condition that is known here: {condition}")

    def resolve(self, value: Any) -> Any:
        """Put in what the functions stand for."""
        match value:
            case {"Ref": "AWS::NoValue"}:
                return GONE
            case {"Ref": name}:
                return self._look_up(name)
            case {"Fn::GetAtt": [name, attribute]}:
                return self._look_up(f"{name}.{attribute}")
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([^}]+)\}", lambda found: self._look_up(found[1]), text)
            case {"Fn::If": [name, then, otherwise]}:
                return self.resolve(then if self.holds({"Condition": name}) else otherwise)
            case dict():
                resolved = {key: self.resolve(each) for key, each in value.items()}
                return {key: each for key, each in resolved.items() if each is not GONE}
            case list():
                return [each for each in map(self.resolve, value) if each is not GONE]
        return value

    def _look_up(self, name: str) -> str:
        return {**self.values, **self.attributes}.get(name, f"<{name}>")


def document(policy: Any) -> Any:
    """A policy document, which may also be written as text."""
    return json.loads(policy) if isinstance(policy, str) else policy
