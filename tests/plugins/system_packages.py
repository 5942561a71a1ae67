"""The programs beside Python that tests drive, the Debian package of each, and where they are looked for.

`python -m tests.plugins.system_packages` prints the packages that are missing, one a line.
"""

import shutil

# Debian puts servers in sbin, which is not on a normal user's PATH.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PACKAGES = {
    "redis-server": "redis-server",
    "pgbouncer": "pgbouncer",
    "smtp-sink": "postfix",
    "smtp-source": "postfix",
    "chromium": "chromium",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
    "age": "age",
    "curl": "curl",
    "jq": "jq",
    "mmdebstrap": "mmdebstrap",
    "node": "nodejs",
    "npm": "npm",
}


def find_program(name: str) -> str | None:
    """Return the path of a program that tests may need, or None where it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def get_program(name: str) -> str:
    """Return the path of `name`; for tests that carry the `needs(name)` mark, which skips them where it is missing."""
    path = find_program(name)
    if path is None:
        raise LookupError(f"{name} is not installed (Debian package {PACKAGES[name]}): mark the test needs({name!r})")
    return path


def missing_packages() -> list[str]:
    """List the Debian packages of the programs that are not installed."""
    return sorted({package for program, package in PACKAGES.items() if find_program(program) is None})


if __name__ == "__main__":
    print("\n".join(missing_packages()))
