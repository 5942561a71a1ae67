"""The home directory of an all-in-one gateway: its lock, its credentials, and what is known while it runs."""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from email_gateway.errors import ConfigurationError

ROOT = 0
SECRET_BYTES = 32
# A command that asks whether the home is in use holds the lock for a moment.
LOCK_TRIES, LOCK_PAUSE_SECONDS = 10, 0.05


@dataclass(frozen=True, slots=True)
class Credentials:
    """The development credentials, made at the first start and kept; `api_key` is the first tenant's."""

    encryption_key: str = field(repr=False)
    encryption_salt: str = field(repr=False)
    admin_api_key: str = field(repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def make(cls) -> "Credentials":
        """Make random credentials; the API key comes later, with the tenant it belongs to."""
        return cls(*(secrets.token_urlsafe(SECRET_BYTES) for _ in range(3)))

    def as_settings(self) -> dict[str, str]:
        """Return the keys under the names of their settings."""
        return {
            "ENCRYPTION_KEY": self.encryption_key,
            "ENCRYPTION_SALT": self.encryption_salt,
            "ADMIN_API_KEY": self.admin_api_key,
        }


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where a running gateway can be reached; the URLs of its database hold passwords.

    `migrations_url` is the owner's; None where a release before had none. `emulator_url` is that of an
    emulated AWS.
    """

    pid: int
    api_url: str
    database_url: str = field(repr=False)
    migrations_url: str | None = field(default=None, repr=False)
    emulator_url: str | None = None


class Home:
    """A directory that one gateway uses at a time.

    HOME/credentials.json  0600  kept: without it nothing that is stored can be read again
    HOME/runtime.json      0600  while the gateway runs
    HOME/lock                    held by the running gateway
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def credentials_file(self) -> Path:
        return self.path / "credentials.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Use the home alone, making it on first use; ConfigurationError when another gateway does."""
        with _explaining(self.path):
            # The embedded server runs as another user when we are root, and must be able to enter.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == ROOT else 0o700)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock_patiently(descriptor):
                raise ConfigurationError(
                    f"another email-gateway (process {_holder(descriptor)}) already uses {self.path}: "
                    "stop it, or choose another directory with --home"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def require_new(self) -> None:
        """Raise ConfigurationError when data is here already: an emulator that begins has no key for it."""
        if (self.path / "postgres" / "data").exists():
            raise ConfigurationError(
                f"{self.path} holds data, and an AWS emulator begins without the keys that it was sealed with: "
                "leave --home out, or choose a directory that is not there yet"
            )

    def find_credentials(self) -> Credentials | None:
        """Return the credentials of an earlier start, None before the first.

        Raises ConfigurationError when they are gone and data is there that only they can open.
        """
        text = self._read(self.credentials_file)
        if text is not None:
            return self._parse_credentials(text)
        if (self.path / "postgres" / "data").exists():
            raise ConfigurationError(
                f"{self.credentials_file} is missing and {self.path} holds data sealed with it: "
                "put it back from a backup, or start anew with another --home"
            )
        return None

    def _parse_credentials(self, text: str) -> Credentials:
        try:
            stored = json.loads(text)
            found = Credentials(**{field.name: stored.get(field.name) for field in fields(Credentials)})
        except (ValueError, AttributeError):
            raise ConfigurationError(f"{self.credentials_file} is not valid JSON: put it back from a backup") from None
        if not all((found.encryption_key, found.encryption_salt, found.admin_api_key)):
            raise ConfigurationError(f"{self.credentials_file} lacks some of its keys: put it back from a backup")
        return found

    def keep_credentials(self, credentials: Credentials) -> None:
        """Store the credentials; they are on the disk when this returns, so that nothing is sealed before."""
        self._write(self.credentials_file, asdict(credentials))

    def publish(self, runtime: Runtime) -> None:
        """Let commands find the running gateway."""
        self._write(self.path / "runtime.json", asdict(runtime))

    def withdraw(self) -> None:
        """Take back what `publish` told."""
        (self.path / "runtime.json").unlink(missing_ok=True)

    def find_runtime(self) -> Runtime | None:
        """Return where the gateway of this home can be reached; None when none runs.

        What a killed gateway left is not believed: the kernel has freed its lock.
        """
        text = self._read(self.path / "runtime.json")
        if text is None or not self._is_held():
            return None
        with contextlib.suppress(ValueError, TypeError):
            return Runtime(**json.loads(text))
        return None

    def _is_held(self) -> bool:
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _lock(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, file: Path) -> str | None:
        with _explaining(self.path), contextlib.suppress(FileNotFoundError):
            return file.read_text(encoding="utf-8")
        return None

    def _write(self, file: Path, content: Mapping[str, object]) -> None:
        """Write JSON of mode 0600 beside and rename it: never seen half-written, and on the disk when we return."""
        with _explaining(self.path):
            descriptor, beside = tempfile.mkstemp(prefix=f".{file.name}.", dir=self.path)
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                json.dump(content, opened, indent=2)
                opened.write("\n")
                opened.flush()
                os.fsync(descriptor)
            Path(beside).replace(file)
            directory = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_patiently(descriptor: int) -> bool:
    for _ in range(LOCK_TRIES):
        if _lock(descriptor):
            return True
        time.sleep(LOCK_PAUSE_SECONDS)
    return False


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"


@contextlib.contextmanager
def _explaining(home: Path) -> Iterator[None]:
    """Turn what the operating system refuses into words about the home."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"the home directory {home} cannot be used: {error.strerror} ({error.filename or home}); "
            "choose another directory with --home"
        ) from None
