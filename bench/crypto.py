"""Seal and open of small and large values, beside raw AES-GCM, Fernet and Tink in the same run.

`python -m bench.crypto [--json] [--seconds 0.3]`. Ours is the whole envelope: random nonce, key id,
and an AAD that binds tenant, field and row. The others do less: no key id, no binding.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypedDict
from uuid import uuid4

import tink
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table
from tink import aead

from email_gateway.vault.data_keys import FieldKey, make_material

SIZES = {"14 B": 14, "20 KiB": 20 * 1024}
OURS = "email-gateway"
ROUNDS = 7
TARGET_SEALS_PER_SECOND = 250_000  # of 14 bytes, on one core

Act = Callable[[], object]


class Cell(TypedDict):
    """One measured figure. `ratio` says how many times as fast ours is."""

    library: str
    act: str
    size: str
    per_second: float
    ratio: float


def ours(plaintext: bytes) -> tuple[Act, Act]:
    """The vault's sealed value."""
    key, row = FieldKey(make_material(), uuid4()), uuid4()
    sealed = key.seal("message.content", row, plaintext)
    return lambda: key.seal("message.content", row, plaintext), lambda: key.open("message.content", row, sealed)


def raw_gcm(plaintext: bytes) -> tuple[Act, Act]:
    """AES-256-GCM with a 96-bit random nonce: bare, and at most 2^32 messages to a key."""
    gcm = AESGCM(os.urandom(32))

    def seal() -> bytes:
        nonce = os.urandom(12)
        return nonce + gcm.encrypt(nonce, plaintext, None)

    sealed = seal()
    return seal, lambda: gcm.decrypt(sealed[:12], sealed[12:], None)


def fernet(plaintext: bytes) -> tuple[Act, Act]:
    """AES-128-CBC with HMAC-SHA256, in base64."""
    box = Fernet(Fernet.generate_key())
    sealed = box.encrypt(plaintext)
    return lambda: box.encrypt(plaintext), lambda: box.decrypt(sealed)


def tink_xaes(plaintext: bytes) -> tuple[Act, Act]:
    """The same cipher in Google's library, in C++."""
    aead.register()
    template = aead.aead_key_templates.XAES_256_GCM_192_BIT_NONCE
    box = tink.new_keyset_handle(template).primitive(aead.Aead)
    sealed = box.encrypt(plaintext, b"")
    return lambda: box.encrypt(plaintext, b""), lambda: box.decrypt(sealed, b"")


LIBRARIES = {OURS: ours, "AESGCM (raw)": raw_gcm, "Fernet": fernet, "Tink XAES-256-GCM": tink_xaes}


def measure(seconds: float = 0.3) -> list[Cell]:
    """Run every cell for about `seconds` in rounds that take turns, and keep each cell's median rate."""
    acts: dict[tuple[str, str, str], Act] = {}
    for size, length in SIZES.items():
        for library, make in LIBRARIES.items():
            acts[library, "seal", size], acts[library, "open", size] = make(os.urandom(length))
    rates: dict[tuple[str, str, str], list[float]] = {cell: [] for cell in acts}
    counts = {cell: max(1, int(rate_of(act, 20) * seconds / ROUNDS)) for cell, act in acts.items()}
    # In turns, so that a moment when the machine is busy does not fall upon one library alone.
    for _ in range(ROUNDS):
        for cell, act in acts.items():
            rates[cell].append(rate_of(act, counts[cell]))
    medians = {cell: statistics.median(found) for cell, found in rates.items()}
    return [
        Cell(library=library, act=act, size=size, per_second=rate, ratio=medians[OURS, act, size] / rate)
        for (library, act, size), rate in medians.items()
    ]


def rate_of(act: Act, count: int) -> float:
    """Call `act` this often and return calls per second."""
    repeat = range(count)
    began = time.perf_counter()
    for _ in repeat:
        act()
    return count / (time.perf_counter() - began)


def table_of(cells: list[Cell]) -> Table:
    """Lay the cells out, one row for each library, with our rate as a multiple of its rate."""
    table = Table(title="Seal and open, per second on one core (x: ours as a multiple of it)")
    table.add_column("")
    columns = [(act, size) for size in SIZES for act in ("seal", "open")]
    for act, size in columns:
        table.add_column(f"{act} {size}", justify="right")
        table.add_column("x", justify="right", style="dim")
    found = {(cell["library"], cell["act"], cell["size"]): cell for cell in cells}
    for library in LIBRARIES:
        row = [found[library, act, size] for act, size in columns]
        table.add_row(
            library, *(text for cell in row for text in (f"{cell['per_second']:,.0f}", f"{cell['ratio']:.2f}"))
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.crypto", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each figure (default 0.3)")
    options = parser.parse_args(arguments)
    cells = measure(options.seconds)
    if options.json:
        print(json.dumps({"target_seals_per_second": TARGET_SEALS_PER_SECOND, "cells": cells}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)  # a pipe counts as 80 columns, and cuts figures
    console.print(table_of(cells))
    seals = next(c["per_second"] for c in cells if (c["library"], c["act"], c["size"]) == (OURS, "seal", "14 B"))
    verdict = "met" if seals >= TARGET_SEALS_PER_SECOND else "missed"
    console.print(f"Target: {TARGET_SEALS_PER_SECOND:,} seals/s of 14 bytes: {verdict} ({seals:,.0f})")


if __name__ == "__main__":
    main()
