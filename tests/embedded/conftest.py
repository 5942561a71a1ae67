"""Directories for the embedded server's tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may search: pytest's own tmp_path is closed (0700)."""
    with tempfile.TemporaryDirectory(prefix="email-gateway-") as made:
        Path(made).chmod(0o755)
        yield Path(made)
