"""The same metrics in Prometheus and in CloudWatch, from processes as they run in production."""

import json
import math

import pytest

from tests.observe.emf_schema import check_document
from tests.operator.watching.faces import Faces, told_by

pytestmark = pytest.mark.anyio

NEEDED = {
    "email_gateway_accepted_total",
    "email_gateway_data_keys_held",
    "email_gateway_dead_letters",
    "email_gateway_fleet_figures_age_seconds",
    "email_gateway_processes",
    "email_gateway_processes_disagreeing",
    "email_gateway_queue_age_seconds",
    "email_gateway_root_keys",
    "email_gateway_root_keys_held",
    "email_gateway_rotation",
    "email_gateway_secret_refresh_total",
    "email_gateway_secret_stale",
    "email_gateway_secret_version_age_seconds",
    "email_gateway_secrets_age_seconds",
    "email_gateway_secrets_lifetime_seconds",
}


async def test_each_process_serves_what_an_operator_must_see(faces: Faces) -> None:
    assert faces.served_names >= NEEDED
    assert all(f"# TYPE {name.removesuffix('_total')}" in text for text in faces.served.values() for name in NEEDED)


async def test_each_process_emits_what_it_serves(faces: Faces) -> None:
    emitted = {name for document in faces.emitted for name, _ in told_by(document)}
    moved = {name for name, _, value in faces.samples() if value and math.isfinite(value)}
    assert moved <= emitted <= faces.served_names
    assert {document["source"].split()[0] for document in faces.emitted} == {"api", "worker"}


async def test_what_is_emitted_is_what_the_specification_asks_for(faces: Faces) -> None:
    for document in faces.emitted:
        check_document(document)
        assert len(json.dumps(document)) < 4096


async def test_no_value_is_in_either_face(faces: Faces) -> None:
    assert "MARK" not in json.dumps(faces.emitted) + "".join(faces.served.values())
