"""The image without an engine: a bare Debian, the Dockerfile's steps in it, and what is run read-only and as nobody."""

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.image.dockerfile import Stage, parse

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "build" / "image"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
# Stands in for python:3.11-slim-bookworm, which no more than a registry has: the same Debian, with its own Python 3.11.
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a mount must hide from the rest of this machine: it is gone with the process.
PRIVATE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--")


def get_image() -> "Container":
    """Return the image of this source, built where anything of it has changed since; the rest of `build/image` is kept.

    Raises CalledProcessError where a Debian cannot be made: no mirror, or no right to.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    stages = parse()
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes of a test run one builds
        make_debian(FOLDER / "debian")
        image, stamp, wanted = FOLDER / "image", FOLDER / "built", _fingerprint()
        if not (image.exists() and stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            image = build(FOLDER / "debian", FOLDER, stages)
            stamp.write_text(wanted)
    return Container(image, stages[-1])


def _fingerprint() -> str:
    inputs = [REPOSITORY / name for name in ("Dockerfile", "pyproject.toml", "README.md", "LICENSE")]
    inputs += [*(REPOSITORY / "requirements").iterdir(), *Path(__file__).parent.glob("*.py")]
    inputs += [path for path in (REPOSITORY / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    digest = hashlib.sha256()
    for path in sorted(inputs):
        digest.update(f"{path.relative_to(REPOSITORY)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def make_debian(root: Path) -> None:
    """Make a bare Debian 12 from the packages that this machine's apt finds; a minute and 230 MB."""
    if root.exists():
        return
    beside = root.with_name(f"{root.name}.half")
    shutil.rmtree(beside, ignore_errors=True)
    sources = [str(SOURCES)] if SOURCES.exists() else []
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(beside)]
    subprocess.run([*command, *sources], check=True, capture_output=True)
    beside.rename(root)


def build(debian: Path, folder: Path, stages: list[Stage]) -> Path:
    """Do the steps of every stage, each in a copy of that Debian, and return the root of the last."""
    roots: dict[str, Path] = {}
    for stage in stages:
        root = folder / (stage.name or "image")
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
        subprocess.run(["cp", "-a", str(debian), str(root)], check=True)
        directory = Path("/")
        for step, rest in stage.steps:
            match step:
                case "WORKDIR":
                    directory = Path(rest)
                    _inside(root, rest).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    _copy(rest.split(), root, directory, roots)
                case "RUN":
                    _run(root, directory, stage.environ, json.loads(rest))
        roots[stage.name] = root
    return root


class Container:
    """Runs commands in the image as an engine does: its user, no capability, nothing that can be written."""

    def __init__(self, root: Path, stage: Stage) -> None:
        self._root = root
        self.stage = stage

    def start(self, command: list[str], environ: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Start a command with the image's environment and this one; it sees this machine's network."""
        user, group = self.stage.user.split(":")
        # HOME is what engines give a user who is not in passwd.
        given = {"PATH": PATH, "HOME": "/", **self.stage.environ, **environ}
        setup = (
            'mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount -o remount,bind,ro "$1"'
            ' && root="$1" && shift && exec chroot "$root" "$@"'
        )
        bare = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
                "--inh-caps=-all", "--bounding-set=-all"]  # fmt: skip
        variables = [f"{name}={value}" for name, value in given.items()]
        return subprocess.Popen(
            [*PRIVATE, "sh", "-c", setup, "sh", str(self._root), *bare, "env", "-i", *variables, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gateway(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """Start the entry point with these arguments, or with those of the image."""
        return self.start([*self.stage.entrypoint, *(arguments or self.stage.command)], environ)

    def run(self, *command: str, **environ: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and all it said."""
        process = self.start(list(command), environ)
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _copy(words: list[str], root: Path, directory: Path, roots: Mapping[str, Path]) -> None:
    origin = REPOSITORY
    if words[0].startswith("--from="):
        origin = roots[words.pop(0).removeprefix("--from=")]
    *sources, target = words
    destination = _inside(root, str(directory / target))
    for source in sources:
        copied = _inside(origin, source)
        place = destination / copied.name if target.endswith("/") else destination
        place.parent.mkdir(parents=True, exist_ok=True)
        if copied.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if origin == REPOSITORY else None
            shutil.copytree(copied, place, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(copied, place)


def _run(root: Path, directory: Path, environ: Mapping[str, str], command: list[str]) -> None:
    """Run a step of the build, which may use the network and pip's settings of this machine, as a builder may."""
    settings = _pip_settings()
    lent = ["/etc/resolv.conf", "/etc/hosts", *_paths_in(settings)]
    for path in lent:
        place = _inside(root, path)
        if Path(path).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    binds = " && ".join(f'mount --bind {path} "$1{path}"' for path in lent)
    setup = f'{binds} && mount -t proc proc "$1/proc" && root="$1" && shift && exec chroot "$root" "$@"'
    variables = [f"{name}={value}" for name, value in {"PATH": PATH, "HOME": "/", **settings, **environ}.items()]
    done = subprocess.run(
        [*PRIVATE, "sh", "-c", setup, "sh", str(root), "env", "-i", f"--chdir={directory}", *variables, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-4000:]}"


def _pip_settings() -> dict[str, str]:
    """Return what this machine's pip is told, as variables."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^(?::env:|\w+)\.([\w-]+)='(.*)'$", told.stdout, re.MULTILINE)
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in found}


def _paths_in(settings: Mapping[str, str]) -> list[str]:
    """Return the files and folders that settings name and this machine has; an index in a folder has its files beside."""
    texts = [value.replace("file://", "") for value in settings.values()]
    named = {path.removesuffix("/simple") for text in texts for path in re.findall(r"(?<![\w/:])/[\w./-]+", text)}
    return sorted(path for path in named if Path(path).exists())
