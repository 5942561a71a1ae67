"""The rotation function against the gateway itself: whole rotations, while mail is sent and read."""

import asyncio

import pytest

from email_gateway.aws.rotation import take_step
from email_gateway.store.keys import list_roots
from tests.api.house import Served, email
from tests.aws.rotating import QUICK, STEPS
from tests.moto_server import begin_rotation
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = pytest.mark.anyio


def begin(aws: Aws, name: str) -> str:
    """Do what RotateSecret does before it calls the function."""
    return begin_rotation(f"{aws.prefix}/{name}")


async def take(aws: Aws, served: Served, step: str, name: str, version_id: str) -> None:
    event = {"Step": step, "SecretId": f"{aws.prefix}/{name}", "ClientRequestToken": version_id}
    await asyncio.to_thread(take_step, event, aws.client, {"GATEWAY_URL": served.url}, patience=QUICK)


async def test_the_encryption_key_twice_in_a_row(aws: Aws, rotating: Served) -> None:
    ids = []
    async with rotating.client() as caller:
        for _ in range(2):
            version_id = begin(aws, "encryption-key")
            for step in STEPS:
                await take(aws, rotating, step, "encryption-key", version_id)
                ids.append((await caller.post("/v1/emails", json=email())).json()["id"])
            assert rotating.context.secrets.status()["encryption-key"]["version_id"] == version_id
        for email_id in ids:
            assert (await caller.get(f"/v1/emails/{email_id}")).json()["subject"] == "Your invoice"
    assert sorted(root.state for root in await list_roots(rotating.db)) == ["active", "retiring", "retiring"]


async def test_the_admin_key_overlaps_with_the_one_before(aws: Aws, rotating: Served) -> None:
    version_id = begin(aws, "admin-api-key")
    for step in STEPS:
        await take(aws, rotating, step, "admin-api-key", version_id)
    new = aws.client.get_secret_value(SecretId=f"{aws.prefix}/admin-api-key", VersionId=version_id)["SecretString"]
    for key in (new, VALUES["admin-api-key"]):
        async with rotating.client("", **{"x-admin-key": key}) as client:
            assert (await client.get("/admin/keys")).status_code == 200


async def test_a_lone_test_step_only_asks_whether_the_gateway_is_there(aws: Aws, rotating: Served) -> None:
    for name in ("encryption-key", "admin-api-key"):
        await take(aws, rotating, "testSecret", name, begin(aws, name))
    assert [root.state for root in await list_roots(rotating.db)] == ["active"]
