"""/admin/keys: the vault as it stands, and a rotation step by step as its function makes it."""

import uuid

import httpx
import pytest

from email_gateway.api.rotation_steps import STEPS
from email_gateway.observe import REGISTRY
from email_gateway.store.audit import list_audit
from email_gateway.vault.roots import derive_root
from tests.api.conftest import ROTATION_KEY
from tests.api.house import Served, email
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = pytest.mark.anyio

NEW_KEY = "MARK-new-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789ab"
OLD_ROOT = derive_root(VALUES["encryption-key"], VALUES["encryption-salt"]).root_id.hex()
NEW_ROOT = derive_root(NEW_KEY, VALUES["encryption-salt"]).root_id.hex()


def put_pending(aws: Aws) -> str:
    version = str(uuid.uuid4())
    aws.client.put_secret_value(
        SecretId=f"{aws.prefix}/encryption-key",
        SecretString=NEW_KEY,
        ClientRequestToken=version,
        VersionStages=["AWSPENDING"],
    )
    return version


def promote(aws: Aws, version: str) -> None:
    aws.client.update_secret_version_stage(
        SecretId=f"{aws.prefix}/encryption-key",
        VersionStage="AWSCURRENT",
        MoveToVersionId=version,
        RemoveFromVersionId=aws.versions["encryption-key"],
    )


async def step(served: Served, name: str, version: str | None, secret: str = "encryption-key") -> httpx.Response:
    async with served.client("", **{"x-rotation-key": ROTATION_KEY}) as function:
        return await function.post(f"/admin/keys/rotation/{name}", json={"secret": secret, "version_id": version})


async def test_a_rotation_step_by_step(aws: Aws, rotating: Served) -> None:
    async with rotating.client() as caller:
        old = (await caller.post("/v1/emails", json=email())).json()["id"]
        version = put_pending(aws)
        for _ in range(2):  # every step may be repeated
            answer = await step(rotating, "stage", version)
            assert answer.json() == {"root_id": NEW_ROOT, "state": "pending", "data_keys": 2}
            answer = await step(rotating, "verify", version)
            assert answer.json() == {"root_id": NEW_ROOT, "state": "pending", "data_keys": 2}
        promote(aws, version)
        for _ in range(2):
            answer = await step(rotating, "complete", version)
            assert answer.json() == {"root_id": NEW_ROOT, "state": "active", "data_keys": 2}
        assert (await caller.get(f"/v1/emails/{old}")).json()["subject"] == "Your invoice"
    async with rotating.client("", **{"x-admin-key": VALUES["admin-api-key"]}) as admin:
        keys = (await admin.get("/admin/keys")).json()
    assert {root["root_id"]: (root["state"], root["opens"]) for root in keys["roots"]} == {
        OLD_ROOT: ("retiring", 2),
        NEW_ROOT: ("active", 2),
    }
    assert keys["live_keys"] == 2
    assert set(keys["instances"][0]["roots_held"]) == {OLD_ROOT, NEW_ROOT}
    actions = [entry.action for entry in await list_audit(rotating.db)]
    assert {"root.staged", "root.verified", "rotation.completed"} <= set(actions)


async def test_verify_alone_stages_first(aws: Aws, rotating: Served) -> None:
    answer = await step(rotating, "verify", put_pending(aws))
    assert (answer.json()["root_id"], answer.json()["state"]) == (NEW_ROOT, "pending")


async def test_verify_without_a_version_says_that_the_gateway_is_there(rotating: Served) -> None:
    answer = await step(rotating, "verify", None)
    assert answer.json() == {"root_id": OLD_ROOT, "state": "active", "data_keys": 0}


async def test_a_second_rotation_within_the_hour_is_a_conflict(aws: Aws, rotating: Served) -> None:
    await step(rotating, "stage", put_pending(aws))
    version = str(uuid.uuid4())
    aws.client.put_secret_value(
        SecretId=f"{aws.prefix}/encryption-key",
        SecretString=NEW_KEY.upper(),
        ClientRequestToken=version,
        VersionStages=["AWSPENDING"],
    )
    answer = await step(rotating, "stage", version)
    assert answer.status_code == 409
    assert "another rotation is pending" in answer.json()["detail"]


async def test_completing_before_the_label_moves_changes_nothing(aws: Aws, rotating: Served) -> None:
    version = put_pending(aws)
    await step(rotating, "stage", version)
    assert (await step(rotating, "complete", version)).json()["state"] == "pending"


async def test_completing_the_admin_key_makes_it_known(aws: Aws, rotating: Served) -> None:
    version = aws.put("admin-api-key", "MARK-new-admin-7a7a7a7a-1b1b-4c4c-8d8d-0123456789")
    answer = await step(rotating, "complete", version, "admin-api-key")
    assert answer.status_code == 200
    assert rotating.context.secrets.status()["admin-api-key"]["version_id"] == version


@pytest.mark.parametrize(
    ("name", "secret", "version"),
    [
        ("stage", "encryption-key", None),
        ("stage", "encryption-salt", "1" * 32),
        ("stage", "admin-api-key", "1" * 32),
        ("verify", "encryption-key", "short"),
        ("complete", "encryption-key", "with a blank and more than thirty-two"),
    ],
)
async def test_what_is_no_step_is_refused(rotating: Served, name: str, secret: str, version: str | None) -> None:
    answer = await step(rotating, name, version, secret)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def counted(name: str, result: str) -> float:
    return REGISTRY.get_sample_value("email_gateway_rotation_steps_total", {"step": name, "result": result}) or 0.0


async def test_a_version_that_does_not_exist_is_asked_for_again(rotating: Served) -> None:
    before = counted("stage", "failed")
    assert (await step(rotating, "stage", str(uuid.uuid4()))).status_code == 503
    assert counted("stage", "failed") == before + 1


async def test_steps_that_are_done_are_counted(aws: Aws, rotating: Served) -> None:
    before = [counted(name, "ok") for name in STEPS]
    version = put_pending(aws)
    for name in ("stage", "verify"):
        await step(rotating, name, version)
    promote(aws, version)
    await step(rotating, "complete", version)
    assert [counted(name, "ok") for name in STEPS] == [count + 1 for count in before]
