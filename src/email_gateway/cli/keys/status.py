"""`email-gateway keys status`: the state of the vault, which is names and counts and never a key."""

import asyncio

import typer

from email_gateway.cli.connecting import open_database
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, print_table
from email_gateway.store.data_keys import IndexRotationRow
from email_gateway.vault.status import KeyStatus, read_key_status

app = typer.Typer()

PURPOSES = {1: "field", 2: "index"}


@app.command(epilog=examples("email-gateway keys status"))
def status(home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show the root keys, how many data keys each opens, and which processes hold them.

    A root key may go only when every live data key has a wrap under another one. Of a tenant whose
    index key changes both keys are shown, and how far it has come.
    """
    found = asyncio.run(_read(home))
    if as_json:
        print_json(as_plain(found))
    else:
        _print(found)


async def _read(home: HomeDir) -> KeyStatus:
    async with open_database(home) as db:
        return await read_key_status(db)


def as_plain(found: KeyStatus) -> dict[str, object]:
    """Return the status for machines; ids in hex."""
    return {
        "roots": [
            {
                "root_id": one.root.root_id,
                "state": one.root.state,
                "wraps": one.wraps,
                "key_version_id": one.root.key_version_id,
                "salt_version_id": one.root.salt_version_id,
                "created_at": one.root.created_at,
                "activated_at": one.root.activated_at,
                "retired_at": one.root.retired_at,
            }
            for one in found.roots
        ],
        "data_keys": [
            {"purpose": PURPOSES[purpose], "state": state, "count": count}
            for (purpose, state), count in sorted(found.keys.items())
        ],
        "live_keys": found.live_keys,
        "index_rotations": [
            {
                "tenant": one.tenant,
                "key_id": one.key_id,
                "state": one.state,
                "step": step_of(one),
                "since": one.activated_at or one.created_at,
            }
            for one in found.index_rotations
        ],
        "processes": [
            {
                "instance": one.instance,
                "process": one.process,
                "host": one.host,
                "pid": one.pid,
                "release": one.release,
                "active_root": one.standing.active_root,
                "roots_held": [root.hex() for root in one.standing.roots_held],
                "seen_at": one.seen_at,
            }
            for one in found.instances
        ],
    }


def step_of(key: IndexRotationRow) -> str:
    """Say what happens with an index key of a tenant that has two."""
    match key.state:
        case "active":
            return "searches read it, every process writes it"
        case "incoming" if key.is_copied:
            return "copied: `keys index rotate` compares and switches"
        case "incoming":
            return f"being copied ({key.moved} entries so far)"
        case _:
            return "still written: `keys index drop` ends it a day after the switch"


def _print(found: KeyStatus) -> None:
    active = next((one.root.root_id for one in found.roots if one.root.state == "active"), None)
    print_table(
        f"Root keys (of {found.live_keys} live data keys each opens so many)",
        ["root", "state", "opens", "key version", "salt version", "active since"],
        [
            (one.root.root_id.hex(), one.root.state, one.wraps, one.root.key_version_id, one.root.salt_version_id,
             one.root.activated_at)
            for one in found.roots
        ],
    )  # fmt: skip
    print_table(
        "Data keys",
        ["purpose", "state", "count"],
        [(PURPOSES[purpose], state, count) for (purpose, state), count in sorted(found.keys.items())],
    )
    if found.index_rotations:
        print_table(
            "Index keys that change",
            ["tenant", "key", "state", "step", "since"],
            [
                (one.tenant, one.key_id.hex(), one.state, step_of(one), one.activated_at or one.created_at)
                for one in found.index_rotations
            ],
        )
    print_table(
        "Processes seen lately",
        ["process", "pid", "host", "release", "holds the active root", "seen"],
        [
            (one.process, one.pid, one.host, one.release, one.standing.active_root == active, one.seen_at)
            for one in found.instances
        ],
    )
