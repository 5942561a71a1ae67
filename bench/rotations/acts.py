"""The rotations themselves: each changes secrets in one way, and names what the fleet must hold then."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.rotations.operator import ADMIN_KEY, PENDING, PREVIOUS, Operator
from bench.rotations.signing import change_keys, find_unsettled
from bench.rotations.stand import ROLE, new_value, wait_until
from email_gateway.aws.failures import RotationFailed
from tests.fault_proxy import EVERY, Fault

KEY, SALT, DATABASE = "encryption-key", "encryption-salt", "database-url"
REFRESH_PAUSE_SECONDS = 12.0
THROTTLED_SECONDS = 20.0
LATE_SECONDS = 3.0
DRAINED_WITHIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Act:
    """One way to rotate: which secrets change, and within how many seconds every process must hold them.

    `check` says afterwards what else is wrong, or None.
    """

    title: str
    secrets: tuple[str, ...]
    run: Callable[[Operator], None]
    within: float = 5.0
    check: Callable[[Operator], str | None] = lambda _operator: None


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one rotation. `problem` is None when all was as promised."""

    title: str
    started_at: float
    acknowledged_seconds: float | None
    root_seconds: float | None
    problem: str | None


def rotate(operator: Operator, act: Act) -> Done:
    """Carry one rotation out and wait until every process holds what is current."""
    started_at = time.monotonic()
    acknowledged = root = problem = None
    try:
        act.run(operator)
        operator.look()
        patience = act.within + REFRESH_PAUSE_SECONDS  # the wish itself may have to wait
        acknowledged = _seconds(operator, is_there=operator.await_versions(act.secrets, patience))
        times = [acknowledged]
        if {KEY, SALT} & set(act.secrets):
            root = _seconds(operator, is_there=operator.await_root(act.within))
            times.append(root)
        operator.join()
        operator.take_new_admin_key()
        if any(seconds is None or seconds > act.within for seconds in times):
            problem = f"not every process followed within {act.within:.0f} s"
        problem = problem or act.check(operator)
    except (RotationFailed, RuntimeError, OSError) as error:
        operator.join()
        problem = f"{type(error).__name__}: {error}"
    return Done(act.title, started_at, acknowledged, root, problem)


def _seconds(operator: Operator, *, is_there: bool) -> float | None:
    return time.monotonic() - operator.told_at if is_there else None


def key_by_function(operator: Operator) -> None:
    operator.rotate_by_function(KEY)


def key_by_hand(operator: Operator) -> None:
    operator.put(KEY)
    operator.begin_refresh()


def key_twice(operator: Operator) -> None:
    """The second comes as soon as one process has the first, while the fleet is still at it."""
    first = operator.put(KEY)
    operator.begin_refresh()
    wait_until(lambda: any(each["versions"][KEY] == first for each in operator.instances()), 5.0, every=0.01)
    operator.put(KEY)
    operator.join()
    operator.begin_refresh()


def key_rolled_back(operator: Operator) -> None:
    operator.move_current(KEY, operator.labelled(KEY, PREVIOUS))
    operator.begin_refresh()


def salt_by_hand(operator: Operator) -> None:
    operator.put(SALT)
    operator.begin_refresh()


def key_and_salt(operator: Operator) -> None:
    operator.put(KEY)
    operator.put(SALT)
    operator.begin_refresh()


def admin_by_function(operator: Operator) -> None:
    operator.rotate_by_function(ADMIN_KEY)


def admin_by_hand(operator: Operator) -> None:
    operator.put(ADMIN_KEY)
    operator.begin_refresh()


def admin_revoking(operator: Operator) -> None:
    """Every key before this one is refused everywhere, at once and for good."""
    operator.put(ADMIN_KEY)
    operator.refresh(revoke_previous=True)
    operator.look()
    operator.take_new_admin_key()


def database_by_rds(operator: Operator) -> None:
    """As AWS's own function does: pending, then the server, then the label. A worker starts in between."""
    password = new_value()
    version = operator.put(DATABASE, operator.stand.database_secret(password), PENDING)
    _change_password(operator, password)
    operator.restart_worker(operator.stand.workers[-1])
    time.sleep(LATE_SECONDS)
    operator.move_current(DATABASE, version)
    operator.begin_refresh()


def database_late(operator: Operator) -> None:
    """The server first, and the secret seconds later: nothing holds the new password meanwhile."""
    password = new_value()
    _change_password(operator, password)
    time.sleep(LATE_SECONDS)
    operator.put(DATABASE, operator.stand.database_secret(password))
    operator.begin_refresh()


def key_while_throttled(operator: Operator) -> None:
    """Secrets Manager refuses every request for a while, and the rotation is seen after it."""
    operator.stand.proxy.faults[EVERY] = Fault.THROTTLED
    try:
        operator.put(KEY)
        ends_at = time.monotonic() + THROTTLED_SECONDS
        operator.refresh()
        time.sleep(max(0.0, ends_at - time.monotonic()))
    finally:
        del operator.stand.proxy.faults[EVERY]
    operator.begin_refresh()


def key_while_killed(operator: Operator) -> None:
    """An api process and a worker die at the moment of the refresh, and are started again."""
    operator.put(KEY)
    operator.begin_refresh()
    operator.kill_api_process()
    operator.kill_worker(operator.stand.workers[0])


def _change_password(operator: Operator, password: str) -> None:
    operator.stand.hidden[password] = "a database password"
    operator.note()
    operator.password_changed_at = operator.moments[-1]
    operator.stand.sql(f"ALTER ROLE {ROLE} PASSWORD '{password}'")


def _still_opens(operator: Operator) -> str | None:
    """Say when a revoked admin key still opened when it had to be refused, on any process."""
    asked_at = operator.told_at
    operator.revoked = list(operator.former_admin_keys)
    refused_at, _ = operator.await_refusal(operator.revoked, asked_at + operator.revoked_within - time.monotonic())
    if refused_at is not None:
        operator.refused_after.append(refused_at - asked_at)
    if refused_at is None or refused_at - asked_at > operator.revoked_within:
        return f"a revoked admin key still opened after {operator.revoked_within:.0f} s"
    return None


def _left_undrained(operator: Operator) -> str | None:
    """Say how many connections of before the change are still there, ten seconds after all have heard of it."""
    statement = f"""
        SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'
        AND backend_start < clock_timestamp() - interval '{{}} seconds'"""

    def count() -> int:
        age = time.monotonic() - operator.password_changed_at
        return int(operator.stand.sql(statement.format(age))[0][0])

    if wait_until(lambda: count() == 0, DRAINED_WITHIN_SECONDS, every=0.5) is not None:
        return None
    return f"{count()} connections of before the change are left after {DRAINED_WITHIN_SECONDS:.0f} s"


ACTS = {
    "key-function": Act("encryption key, by the function", (KEY,), key_by_function),
    "key": Act("encryption key, by hand", (KEY,), key_by_hand),
    "key-twice": Act("encryption key, twice at once", (KEY,), key_twice),
    "rollback": Act("encryption key, label rolled back", (KEY,), key_rolled_back),
    "salt": Act("salt, by hand", (SALT,), salt_by_hand),
    "key-salt": Act("key and salt together", (KEY, SALT), key_and_salt),
    "admin-function": Act("admin key, by the function", (ADMIN_KEY,), admin_by_function),
    "admin": Act("admin key, by hand", (ADMIN_KEY,), admin_by_hand),
    "admin-revoke": Act("admin key, previous revoked", (ADMIN_KEY,), admin_revoking, check=_still_opens),
    "database-rds": Act("database password, as RDS does", (DATABASE,), database_by_rds, 10.0, _left_undrained),
    "database-late": Act("database password, secret 3 s late", (DATABASE,), database_late, 10.0, _left_undrained),
    "throttled": Act("encryption key, AWS throttling for 20 s", (KEY,), key_while_throttled, 10.0),
    "dkim": Act("DKIM keys, published and verified", (), change_keys, 10.0, find_unsettled),
    "killed": Act("encryption key, api and worker killed", (KEY,), key_while_killed, 30.0),
}
# A rollback needs a key that was changed alone just before it.
FULL_ORDER = (
    "key-function", "key", "rollback", "admin-function", "salt", "key-twice", "database-rds", "admin-revoke",
    "key-salt", "key-function", "rollback", "admin", "killed", "dkim", "key", "database-late", "salt", "key-function",
    "admin-revoke", "throttled", "key-twice", "rollback", "key-salt", "admin-function", "database-rds",
    "key-function", "key", "admin", "salt", "admin-revoke", "key-function",
)  # fmt: skip
SHORT_ORDER = ("key-function", "dkim", "database-rds", "key-twice", "rollback", "salt", "admin-revoke")


def acts_of(names: Sequence[str]) -> list[Act]:
    """Return the acts of these names in their order."""
    return [ACTS[name] for name in names]
