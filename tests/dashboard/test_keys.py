"""The page of secrets and keys, over a real database: what each state shows, and that no value does."""

from uuid import UUID, uuid4

import httpx
import pytest

from email_gateway.store.instances import Identity, Standing, record_instance
from email_gateway.store.key_walks import Counts, Position, advance_walk, begin_walk
from email_gateway.store.secret_versions import record_current
from tests.conftest import KEY, SALT
from tests.dashboard.house import House, add_message, status_of

pytestmark = pytest.mark.anyio

PAGE = "/dashboard/keys"
CURRENT, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
CRITICAL = ("encryption-key", "encryption-salt", "admin-api-key")


async def read(client: httpx.AsyncClient) -> str:
    answer = await client.get(PAGE)
    assert answer.status_code == 200
    return " ".join(answer.text.split())


async def follow(house: House, process: str = "api", **changes: object) -> UUID:
    """Have a process write down that it holds the current versions and the active root key."""
    roots = house.keyring.roots.ids
    standing = {
        "roots_held": roots,
        "active_root": next(iter(roots)),
        "secrets_generation": 1_000_000,
        "keys_generation": 0,
        "secret_versions": dict.fromkeys(CRITICAL, CURRENT),
        "failures": {},
        **changes,
    }
    instance = uuid4()
    await record_instance(house.db, Identity(instance, process, "mail-1", 4711, "0.1.0"), Standing(**standing))  # type: ignore[arg-type]
    return instance


async def be_in_secrets_manager(house: House) -> None:
    """Have all secrets stand in Secrets Manager, for so long that nobody is still on the way to them."""
    house.secrets.can_change = True
    house.secrets.statuses |= {name: status_of(CURRENT, next_refresh_seconds=210.0) for name in CRITICAL}
    house.secrets.statuses["smtp-url"] = status_of(None)
    for name in CRITICAL:
        await record_current(house.db, name, CURRENT)
    await house.db.execute("UPDATE secret_version SET current_since = now() - interval '12 days'")
    await house.db.execute("UPDATE crypto_root SET activated_at = now() - interval '12 days'")
    await house.db.execute("UPDATE generation SET changed_at = now() - interval '12 days'")


async def test_only_an_operator_who_is_logged_in_sees_it(house: House) -> None:
    async with house.client() as client:
        for path in (PAGE, f"{PAGE}/live"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/login")


async def test_secrets_of_the_environment_have_no_versions_and_no_keys_are_there_yet(house: House) -> None:
    async with house.operator() as client:
        page = await read(client)
    assert "From the environment: Secrets Manager is off" in page
    assert "No rotation yet" in page
    assert "which does not change while a process runs" in page
    assert "No process has written itself down yet." in page
    assert "None yet: a tenant's first mail makes its keys." in page
    assert "Waits for you" not in page


async def test_what_serves_is_shown_with_version_age_and_holders(house: House) -> None:
    await be_in_secrets_manager(house)
    await add_message(house)
    await follow(house)
    await follow(house, "worker")
    async with house.operator() as client:
        page = await read(client)
    assert "Every process holds the current secrets and the active root key" in page
    assert f'<code title="{CURRENT}">11111111</code>' in page
    assert "12 d 0 h of 90 d" in page
    assert "13 % of the allowed age" in page
    assert "read again within 3 min 30 s" in page
    for process in ("api 4711", "worker 4711"):
        assert process in page
    assert page.count("followed</span>") == 2
    root = next(iter(house.keyring.roots.ids)).hex()
    assert f"Life of root key {root[:8]}, which is active" in page
    assert "opens 2 of 2 data keys" in page
    assert "smtp-url</th>" in page
    assert "not set" in page
    assert '<th scope="col">smtp-url' not in page  # nobody holds it


async def test_a_process_that_disagrees_and_a_stale_secret_are_named_with_what_to_do(house: House) -> None:
    await be_in_secrets_manager(house)
    house.secrets.statuses["admin-api-key"] = status_of(
        CURRENT, stale=True, age_seconds=700.0, last_error="unavailable"
    )
    await follow(house)
    await follow(house, "worker", secret_versions={"encryption-key": OTHER}, active_root=None)
    async with house.operator() as client:
        page = await read(client)
    assert "Waits for you" in page
    assert "<b>worker 4711 on mail-1</b> holds another version of encryption-key" in page
    assert "<code>email-gateway secrets refresh</code> has every process read them again" in page
    assert f'title="{OTHER}">22222222</code> <span class="another">another</span>' in page
    assert "not the active one" in page
    assert "<b>admin-api-key</b> could not be read: unavailable; the value of 11 min 40 s ago serves" in page
    assert "not read</span>" in page


async def test_a_change_on_its_way_calls_nobody(house: House) -> None:
    await be_in_secrets_manager(house)
    await house.db.execute("UPDATE generation SET changed_at = now()")
    await follow(house, secrets_generation=-1)
    async with house.operator() as client:
        page = await read(client)
    assert "A change is being taken up: 1 of 1 processes are on their way to it." in page
    assert "Waits for you" not in page
    assert "not yet</span>" in page


async def test_a_process_that_cannot_read_and_a_stale_value_have_words_of_their_own(house: House) -> None:
    await be_in_secrets_manager(house)
    house.secrets.statuses["encryption-key"] = status_of(CURRENT, stale=True, age_seconds=700.0)
    await follow(house, failures={"encryption-key": "denied"})
    async with house.operator() as client:
        page = await read(client)
    assert "cannot read</span>" in page
    assert "stale</span>" in page
    assert "encryption-key: denied" in page


async def test_a_secret_older_than_is_allowed_is_marked(house: House) -> None:
    await be_in_secrets_manager(house)
    await house.db.execute("UPDATE secret_version SET current_since = now() - interval '75 days'")
    async with house.operator() as client:
        page = await read(client)
    assert "<b>admin-api-key</b> is 75 days old, 60 are the most" in page
    assert '<span class="is-over">75 d 0 h of 60 d</span>' in page


async def test_a_reseal_shows_how_far_it_is_and_what_did_not_open(house: House) -> None:
    ids = sorted([await add_message(house) for _ in range(4)])
    walk = await begin_walk(house.db, house.tenant_id, "message", bytes(16))
    await advance_walk(house.db, walk, Position(ids[0], ids[0]), Counts(1200, 3, 2), is_finished=False)
    walk = await begin_walk(house.db, house.tenant_id, "event", bytes(16))
    await advance_walk(house.db, walk, Position(ids[3], ids[3]), Counts(4), is_finished=True)
    async with house.operator() as client:
        page = await read(client)
    assert "acme: message" in page
    assert "about 25 %" in page
    assert 'aria-label="About 25 % done"' in page
    assert "1,200 moved, 3 changed meanwhile" in page
    assert "2 do not open" in page
    assert "<b>2 values of message</b> of acme do not open" in page
    assert "acme: event" in page
    assert 'aria-label="Finished"' in page


async def test_without_an_active_root_key_the_page_says_what_to_do(house: House) -> None:
    async with house.operator() as client:
        await house.db.execute("DELETE FROM crypto_root")
        page = await read(client)
    assert "<b>No root key is active</b>" in page
    assert "No root key: nothing can be sealed." in page


async def test_a_poll_brings_the_fresh_part_alone_and_otherwise_nothing(house: House) -> None:
    async with house.operator() as client:
        first = await client.get(f"{PAGE}/live")
        assert "<html" not in first.text
        assert "Who holds them" in first.text
        same = await client.get(f"{PAGE}/live", headers={"if-none-match": first.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")


async def test_every_table_has_a_caption_and_every_picture_a_name(house: House) -> None:
    await be_in_secrets_manager(house)
    await follow(house)
    async with house.operator() as client:
        page = await read(client)
    assert page.count("<table") == page.count("<caption") == 2
    assert page.count('role="img"') == page.count('role="img" aria-label="') > 0


async def test_no_value_of_a_secret_stands_in_the_page(house: House) -> None:
    await be_in_secrets_manager(house)
    await follow(house)
    async with house.operator() as client:
        page = await read(client)
    assert not [value for value in (KEY, SALT, house.secrets.value) if value in page]
    assert "key_id" not in page


async def test_hostile_names_of_tenants_and_hosts_are_escaped(house: House) -> None:
    await be_in_secrets_manager(house)
    await house.db.execute("UPDATE tenant SET name = '<img src=x onerror=alert(1)>'")
    await begin_walk(house.db, house.tenant_id, "message", bytes(16))
    who = Identity(uuid4(), "<img src=y>", "<img src=z>", 1, "0.1.0")
    await record_instance(house.db, who, Standing([], None, 0, 0, {"encryption-key": "<img src=w>"}, {}))
    async with house.operator() as client:
        page = await read(client)
    assert "<img" not in page
    assert page.count("&lt;img") >= 4
