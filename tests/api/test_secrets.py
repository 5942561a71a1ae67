"""/admin/secrets: what an operator sees of the secrets, and has read again."""

import uuid

import httpx
import pytest

from email_gateway.store.audit import list_audit
from tests.api.conftest import ROTATION_KEY
from tests.api.house import Served
from tests.plugins.secrets_manager import VALUES, Aws

pytestmark = pytest.mark.anyio

ADMIN = VALUES["admin-api-key"]
NEW_ADMIN = "MARK-new-admin-7a7a7a7a-1b1b-4c4c-8d8d-0123456789"


def with_key(served: Served, key: str, header: str = "x-admin-key") -> httpx.AsyncClient:
    return served.client("", **{header: key})


async def test_the_list_shows_versions_ages_and_processes_and_no_value(aws: Aws, rotating: Served) -> None:
    async with with_key(rotating, ADMIN) as client:
        answer = await client.get("/admin/secrets")
    assert answer.status_code == 200
    body = answer.json()
    shown = {each["name"]: each for each in body["data"]}
    assert shown["encryption-key"]["version_id"] == aws.versions["encryption-key"]
    assert shown["encryption-key"]["last_rotation"] is not None
    assert shown["encryption-key"]["last_error"] is None
    assert shown["encryption-key"]["age_seconds"] < shown["encryption-key"]["next_refresh_seconds"]
    assert shown["smtp-url"]["version_id"] is None
    (instance,) = body["instances"]
    assert (instance["process"], instance["acknowledged"]) == ("api", True)
    assert "MARK" not in answer.text


async def test_a_refresh_answers_with_what_each_process_holds(aws: Aws, rotating: Served) -> None:
    version = aws.put("encryption-key", "MARK-new-key-7a7a7a7a-1b1b-4c4c-8d8d-0123456789ab")
    async with with_key(rotating, ADMIN) as client:
        answer = await client.post("/admin/secrets/refresh")
        again = await client.post("/admin/secrets/refresh")
    assert answer.status_code == 200
    assert answer.json()["complete"] is True
    assert answer.json()["instances"][0]["versions"]["encryption-key"] == version
    assert again.status_code == 429
    assert 1 <= int(again.headers["retry-after"]) <= 11
    assert "MARK" not in answer.text + again.text
    assert ("admin-key", "secrets.refreshed") in [(e.actor, e.action) for e in await list_audit(rotating.db)]


async def test_revoking_refuses_the_former_admin_key_at_once(aws: Aws, rotating: Served) -> None:
    aws.put("admin-api-key", NEW_ADMIN)
    async with with_key(rotating, NEW_ADMIN) as client:
        # This process had not heard of the new key: it looks once before it refuses.
        assert (await client.get("/admin/secrets")).status_code == 200
    async with with_key(rotating, ADMIN) as former:
        assert (await former.get("/admin/secrets")).status_code == 200
        async with with_key(rotating, NEW_ADMIN) as client:
            answer = await client.post("/admin/secrets/refresh", json={"revoke_previous": True})
        assert answer.json()["revoked"] == [aws.versions["admin-api-key"]]
        assert (await former.get("/admin/secrets")).status_code == 401
    assert "admin_key.previous_revoked" in [entry.action for entry in await list_audit(rotating.db)]


@pytest.mark.parametrize("body", ['{"revoke_previous": "yes"}', '{"revoke": true}', "[]", "{"])
async def test_a_wish_that_is_not_one_is_refused_and_nothing_refreshed(rotating: Served, body: str) -> None:
    async with with_key(rotating, ADMIN) as client:
        answer = await client.post("/admin/secrets/refresh", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert [entry for entry in await list_audit(rotating.db) if entry.action == "secrets.refreshed"] == []


async def test_a_staged_admin_key_opens_health_and_nothing_else(aws: Aws, rotating: Served) -> None:
    version = str(uuid.uuid4())
    aws.client.put_secret_value(
        SecretId=f"{aws.prefix}/admin-api-key",
        SecretString=NEW_ADMIN,
        ClientRequestToken=version,
        VersionStages=["AWSPENDING"],
    )
    async with with_key(rotating, NEW_ADMIN) as staged:
        assert (await staged.get("/admin/health")).status_code == 401
        async with with_key(rotating, ROTATION_KEY, "x-rotation-key") as function:
            answer = await function.post(
                "/admin/secrets/stage", json={"secret": "admin-api-key", "version_id": version}
            )
        assert answer.status_code == 200
        assert (await staged.get("/admin/health")).status_code == 200
        for path in ("/admin/secrets", "/admin/keys", "/admin/dlq"):
            assert (await staged.get(path)).status_code == 401
        await rotating.db.execute("UPDATE secret_version SET staged_until = now() WHERE version_id = $1", version)
        await rotating.context.fleet.look()
        assert (await staged.get("/admin/health")).status_code == 401


async def test_a_version_that_cannot_be_read_is_not_staged(rotating: Served) -> None:
    async with with_key(rotating, ROTATION_KEY, "x-rotation-key") as function:
        missing = await function.post(
            "/admin/secrets/stage", json={"secret": "admin-api-key", "version_id": str(uuid.uuid4())}
        )
        other = await function.post(
            "/admin/secrets/stage", json={"secret": "database-url", "version_id": str(uuid.uuid4())}
        )
    assert missing.status_code == 503
    assert other.status_code == 422


async def test_the_rotation_key_opens_its_own_paths_only(rotating: Served) -> None:
    async with with_key(rotating, ROTATION_KEY, "x-rotation-key") as function:
        assert (
            await function.post("/admin/keys/rotation/verify", json={"secret": "encryption-key"})
        ).status_code == 200
        for method, path in (
            ("GET", "/admin/secrets"),
            ("POST", "/admin/secrets/refresh"),
            ("GET", "/admin/keys"),
            ("GET", "/admin/health"),
            ("GET", "/admin/dlq"),
        ):
            assert (await function.request(method, path)).status_code == 401
    async with with_key(rotating, ROTATION_KEY) as as_admin:
        assert (await as_admin.get("/admin/secrets")).status_code == 401
    async with with_key(rotating, "x" * 40, "x-rotation-key") as wrong:
        assert (await wrong.post("/admin/keys/rotation/verify", json={"secret": "encryption-key"})).status_code == 401


async def test_without_secrets_manager_there_is_nothing_to_stage(api: Served) -> None:
    async with api.admin() as client:
        answer = await client.post(
            "/admin/secrets/stage", json={"secret": "admin-api-key", "version_id": str(uuid.uuid4())}
        )
        listed = await client.get("/admin/secrets")
    assert answer.status_code == 422
    assert {each["version_id"] for each in listed.json()["data"]} == {"environment", None}
