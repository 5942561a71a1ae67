"""docs/templates.md: its programs run one after another, and its limits are those of the code."""

import asyncio
import re
from pathlib import Path

import pytest
import resend

from email_gateway.mail.templates import (
    MAX_KEY_CHARACTERS,
    MAX_RENDERED_BYTES,
    MAX_TEXT_CHARACTERS,
    MAX_VARIABLES,
    RESERVED,
)
from email_gateway.store.templates import MAX_TEMPLATES
from tests.api.house import Served

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")


async def test_its_programs_run_one_after_another(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "api_url", f"{api.url}/v1")
    monkeypatch.setattr(resend, "api_key", api.acme_key)
    names: dict[str, object] = {}
    for program in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        await asyncio.to_thread(exec, program, names)
    sent = names["sent"]
    assert isinstance(sent, dict)
    read = await asyncio.to_thread(resend.Emails.get, sent["id"])
    assert read["subject"] == "Your order 4711"
    assert (
        read["html"] == '<p>Hello Maria, <a href="https://acme.example/orders/4711">your order</a> is on its way.</p>'
    )


def test_its_limits_are_those_of_the_code() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| reserved keys"))
    assert set(re.findall(r"`(\w+)`", row)) == RESERVED
    assert f"1 to {MAX_KEY_CHARACTERS} ASCII letters" in PAGE
    assert f"at most {MAX_VARIABLES} variables" in PAGE
    assert f"at most {MAX_TEXT_CHARACTERS:,} characters" in PAGE
    assert f"a message made of one {MAX_RENDERED_BYTES // 2**20} MiB, and a tenant {MAX_TEMPLATES:,} templates" in PAGE
