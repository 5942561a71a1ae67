"""`email-gateway secrets show-rotation`: a whole rotation on the emulated AWS, each step told as it happens."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import typer
import uvloop

from email_gateway.cli.calling import Gateway
from email_gateway.cli.connecting import name_of_user, open_home, open_vault
from email_gateway.cli.exits import CommandFailed
from email_gateway.cli.keys.reseal import Resealed, reseal_tenant
from email_gateway.cli.keys.walking import walk_bar
from email_gateway.cli.options import HomeDir, examples
from email_gateway.cli.printing import say
from email_gateway.cli.secrets.account import open_account
from email_gateway.cli.secrets.fleet import name_of
from email_gateway.errors import GatewayError
from email_gateway.operator.account import Account
from email_gateway.operator.changing import rotate
from email_gateway.operator.stored import get_stored, read_version
from email_gateway.rekeying.walking import Pace
from email_gateway.secrets.secret import SecretName
from email_gateway.store.accounts import list_tenants
from email_gateway.up.emulator import enter_account

app = typer.Typer()

MAILS = 60
RESEALED_PER_SECOND = 60  # a few seconds in all: slow enough to be watched
MAIL_EVERY_SECONDS = 0.2
LOOK_EVERY_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
SHORT = 8
MAIL = {
    "from": "Billing <billing@example.com>",
    "to": "ana@example.net",
    "subject": "Your invoice",
    "text": "Hello Ana, this is your invoice.",
    "recipient": {"tax_id": "529.982.247-25"},
}


@app.command(
    "show-rotation",
    epilog=examples(
        "email-gateway up --aws-emulator", "email-gateway secrets show-rotation --home /tmp/email-gateway-emulator-..."
    ),
)
def show_rotation(home: HomeDir = None) -> None:
    """Rotate the encryption key of a gateway that `up --aws-emulator` runs, and tell each step as it happens.

    Mail is accepted before, and all the while. A new value is stored, every process takes it, a new root key
    becomes active, old values are moved to a new field key, and the first mail is read again. The page *Secrets
    and keys* of the dashboard shows the same as pictures. Against a real account nothing is done: there it
    is `secrets rotate`, `secrets refresh`, `keys renew` and `keys reseal`, which this runs in their order.
    """
    show = _Show.open(home)
    first, before = show.accept_mail()
    with show.mailing() as mailer:
        version_id = show.store_new_value()
        show.have_it_taken(version_id)
        show.tell_of_roots(before)
        show.move_old_values()
    show.verify(version_id)
    show.read_again(first, mailer)


class _Mailer(threading.Thread):
    """Sends one mail after the other until it is told to end, and counts those that were refused."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self.is_over = threading.Event()
        self.sent = self.refused = 0

    def run(self) -> None:
        while not self.is_over.wait(MAIL_EVERY_SECONDS):
            self.sent += 1
            try:
                self._gateway.post("/emails", MAIL)
            except GatewayError:
                self.refused += 1


@dataclass(frozen=True, slots=True)
class _Show:
    """The gateway that is shown: as a caller of the API, as its operator, and its emulated account."""

    home: Path | None
    account: Account
    caller: Gateway
    admin: Gateway
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, home: Path | None) -> Self:
        """Find the gateway and enter the account of its emulator; raises CommandFailed where there is none."""
        runtime, credentials = open_home(home).find_runtime(), None
        if runtime is not None and runtime.emulator_url is not None:
            credentials = open_home(home).find_credentials()
        if runtime is None or runtime.emulator_url is None or credentials is None:
            raise CommandFailed(
                f"no gateway with an emulated AWS runs in {open_home(home).path}",
                "start `email-gateway up --aws-emulator`: it prints this command with its --home",
            )
        enter_account(runtime.emulator_url)
        account = open_account()
        admin_key = read_version(account, get_stored(account, SecretName.ADMIN_API_KEY)).text
        return cls(
            home,
            account,
            caller=Gateway(runtime.api_url, credentials.api_key),
            admin=Gateway(runtime.api_url, admin_key=str(admin_key)),
        )

    def accept_mail(self) -> tuple[str, str]:
        """Have mail sealed and delivered; return the id of the first, and of the root key that is active."""
        answer = self.caller.post("/emails/batch", [MAIL] * MAILS)
        first = str(answer["data"][0]["id"])
        self._await(
            lambda: self.caller.get(f"/emails/{first}")["last_event"] == "delivered", "the mail is not delivered"
        )
        self._tell("mail", f"{MAILS} mails are accepted, sealed, and on their way; the first is {first}")
        keys = self.admin.get("/admin/keys")
        active = _active(keys)
        self._tell("before", f"root key {_short(active['root_id'])} is active and opens {_coverage(active, keys)}")
        return first, str(active["root_id"])

    @contextmanager
    def mailing(self) -> Iterator[_Mailer]:
        """Send mail all the while."""
        mailer = _Mailer(self.caller)
        mailer.start()
        try:
            yield mailer
        finally:
            mailer.is_over.set()
            mailer.join()

    def store_new_value(self) -> str:
        """Do what `secrets rotate encryption-key` does; return the new VersionId."""
        changed = rotate(self.account, SecretName.ENCRYPTION_KEY)
        self._tell("new value", f"version {_short(changed.version_id)} of encryption-key is stored and current")
        self._tell("", f"version {_short(str(changed.former_version_id))} stays, as the one before")
        return changed.version_id

    def have_it_taken(self, version_id: str) -> None:
        """Do what `secrets refresh` does, and tell of each process as it takes the version."""
        self._tell("refresh", "every process is asked to read its secrets now")
        taken: set[str] = set()

        def look() -> bool:
            instances = self.admin.get("/admin/secrets")["instances"]
            for each in instances:
                if each["instance"] not in taken and each["versions"].get(SecretName.ENCRYPTION_KEY) == version_id:
                    taken.add(each["instance"])
                    self._tell("", f"{name_of(each)} took version {_short(version_id)}")
            return taken >= {each["instance"] for each in instances}

        with ThreadPoolExecutor(max_workers=1) as pool:
            asked = pool.submit(self.admin.post, "/admin/secrets/refresh", {})
            self._await(look, "not every process has taken the new version")
            asked.result()

    def tell_of_roots(self, before: str) -> None:
        """Wait until another root key is active, and every process holds it."""

        def has_followed() -> bool:
            keys = self.admin.get("/admin/keys")
            active = _active(keys)["root_id"]
            return bool(active != before and all(each["active_root"] == active for each in keys["instances"]))

        self._await(has_followed, "not every process holds a new root key")
        keys = self.admin.get("/admin/keys")
        active = _active(keys)
        self._tell(
            "new root", f"root key {_short(active['root_id'])} is active on every process; {_short(before)} retires"
        )
        self._tell("", f"it opens {_coverage(active, keys)}; no value was sealed anew")

    def move_old_values(self) -> None:
        """Do what `keys renew` and `keys reseal` do, slowly enough to be watched."""
        self._tell("new key", "from now on values are sealed under a new field key; the old values follow it")
        done: list[Resealed] = uvloop.run(self._reseal())
        moved = sum(each.counts.moved for each in done)
        unreadable = sum(each.counts.unreadable for each in done)
        self._tell("reseal", f"{moved} values moved to the new field key, {unreadable} do not open")

    async def _reseal(self) -> list[Resealed]:
        pace, done = Pace(RESEALED_PER_SECOND), []
        with walk_bar(as_json=False) as bar:
            async with open_vault(self.home) as (db, keyring):
                for tenant in await list_tenants(db):
                    await keyring.renew_field_key(tenant.tenant_id, actor=name_of_user())
                    done += await reseal_tenant(db, keyring, tenant, pace, bar)
        return done

    def verify(self, version_id: str) -> None:
        """Have every data key opened under the new root key."""
        step = {"secret": SecretName.ENCRYPTION_KEY, "version_id": version_id}
        standing = self.admin.post("/admin/keys/rotation/verify", step)
        self._tell(
            "verify", f"all {standing['data_keys']} data keys were opened under root key {_short(standing['root_id'])}"
        )

    def read_again(self, first: str, mailer: _Mailer) -> None:
        """Read the first mail, and tell what came of those sent meanwhile; raises CommandFailed unless all is well."""
        mail = self.caller.get(f"/emails/{first}")
        if mail["subject"] != MAIL["subject"] or mailer.refused:
            raise CommandFailed(
                f"{mailer.refused} of {mailer.sent} mails were refused, or the first mail reads otherwise"
            )
        self._tell("old mail", f"the first mail opens, and reads as it was sent: {first}")
        self._tell("meanwhile", f"{mailer.sent} mails were sent, 0 were refused")

    def _tell(self, step: str, what: str) -> None:
        say(f"{time.monotonic() - self.began:5.1f} s  {step:<10} {what}")

    def _await(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise CommandFailed(
                    f"{otherwise} after {PATIENCE_SECONDS:.0f} s", "see the log lines of `up` in the other terminal"
                )
            time.sleep(LOOK_EVERY_SECONDS)


def _active(keys: dict[str, Any]) -> dict[str, Any]:
    active: dict[str, Any] = next(root for root in keys["roots"] if root["state"] == "active")
    return active


def _coverage(root: dict[str, Any], keys: dict[str, Any]) -> str:
    return f"{root['opens']} of {keys['live_keys']} data keys"


def _short(name: str) -> str:
    return f"{name[:SHORT]}…"
