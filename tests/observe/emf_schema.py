"""What a document in CloudWatch's Embedded Metric Format must be, as a JSON schema written from its specification.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
Units are those of MetricDatum in the API reference of CloudWatch.
"""

from typing import Any

import jsonschema

UNITS = [
    *(f"{prefix}{unit}" for prefix in ("", "Kilo", "Mega", "Giga", "Tera") for unit in ("bytes", "bits")),
    *(f"{prefix}{unit}/Second" for prefix in ("", "Kilo", "Mega", "Giga", "Tera") for unit in ("bytes", "bits")),
    "Bytes",
    "Bits",
    "Bytes/Second",
    "Bits/Second",
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Percent",
    "Count",
    "Count/Second",
    "None",
]
TARGET = {"type": "string", "minLength": 1, "maxLength": 1024}
METRIC = {
    "type": "object",
    "required": ["Name"],
    "additionalProperties": False,
    "properties": {"Name": TARGET, "Unit": {"enum": UNITS}, "StorageResolution": {"enum": [1, 60]}},
}
DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "additionalProperties": False,
    "properties": {
        "Namespace": TARGET,
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "maxItems": 30, "items": {"type": "string", "minLength": 1, "maxLength": 250}},
        },
        "Metrics": {"type": "array", "maxItems": 100, "items": METRIC},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 0},
                "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": DIRECTIVE},
            },
        }
    },
}
VALUES = {"type": ["number", "array"], "items": {"type": "number"}, "maxItems": 100}


def check_document(document: dict[str, Any]) -> None:
    """Raise unless CloudWatch would make metrics of this document; its references must have their targets."""
    jsonschema.validate(document, SCHEMA)
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for metric in directive["Metrics"]:
            jsonschema.validate(document[metric["Name"]], VALUES)
        for name in {name for dimensions in directive["Dimensions"] for name in dimensions}:
            jsonschema.validate(document[name], TARGET)
