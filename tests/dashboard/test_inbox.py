import re
from uuid import UUID

import pytest

from email_gateway.dashboard.headers import DOWNLOAD_POLICY, MAIL_POLICY
from tests.dashboard.house import HOSTILE, OPERATOR, House, add_mail, raw_mail

pytestmark = pytest.mark.anyio


def path_of(house: House, inbox_id: UUID) -> str:
    return f"/dashboard/inbox/{house.tenant_id}/{inbox_id}"


async def test_the_newest_mail_stands_first(house: House) -> None:
    await add_mail(house, raw_mail(subject="The first"))
    await add_mail(house, raw_mail(subject="The second"))
    async with house.operator() as client:
        page = (await client.get("/dashboard/inbox")).text
    assert page.index("The second") < page.index("The first")
    assert "Acme Billing" in page


async def test_a_mail_shows_its_headers_text_and_files(house: House) -> None:
    inbox_id = await add_mail(house, raw_mail(files=(("boleto.pdf", "application/pdf", b"%PDF-1.4"),)))
    async with house.operator() as client:
        page = (await client.get(path_of(house, inbox_id))).text
    for shown in ("Your invoice", "maria@example.com", "It is due on Friday.", "boleto.pdf", "application/pdf, 8 B"):
        assert shown in page, shown
    assert "<iframe" not in page


async def test_html_stands_in_a_sandbox_with_an_answer_of_its_own(house: House) -> None:
    html = '<p style="color:red">Hi</p><script>alert(1)</script><img src=x onerror=alert(2)>'
    inbox_id = await add_mail(house, raw_mail(html=html))
    path = path_of(house, inbox_id)
    async with house.operator() as client:
        page = (await client.get(path)).text
        frame = re.findall(r"<iframe[^>]*>", page)
        assert len(frame) == 1
        assert re.search(r"\ssandbox(?=[\s>])(?!=)", frame[0])
        assert "alert(" not in page
        answer = await client.get(f"{path}/html")
    assert html in answer.text
    assert answer.headers["content-security-policy"] == MAIL_POLICY
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    for directive in ("default-src 'none'", "img-src data:", "form-action 'none'", "sandbox"):
        assert directive in MAIL_POLICY.split("; ")


async def test_a_file_is_only_ever_downloaded(house: House) -> None:
    files = (
        ("page.html", "text/html", b"<script>alert(1)</script>"),
        ("EVIL", "image/svg+xml", b"<svg/>"),
        ("../../fatura-ção.pdf", "application/pdf", b"%PDF"),
        ("invoice\u202efdp.exe", "application/pdf", b"MZ"),
    )
    evil = b"filename*=utf-8''a%22%3B%20filename%3Dx.exe%0D%0AX-Evil%3A%201.svg"
    raw = raw_mail(files=files).replace(b'filename="EVIL"', evil)
    assert evil in raw
    inbox_id = await add_mail(house, raw)
    async with house.operator() as client:
        answers = [await client.get(f"{path_of(house, inbox_id)}/attachments/{n}") for n in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404]
    for answer, (_, _, data) in zip(answers, files, strict=False):
        assert answer.content == data
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-security-policy"] == DOWNLOAD_POLICY
        assert "x-evil" not in answer.headers
        disposition = answer.headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename=\"[\w.-]+\"; filename\*=UTF-8''[\w.%~-]+", disposition), disposition
    assert "filename*=UTF-8''fatura-%C3%A7%C3%A3o.pdf" in answers[2].headers["content-disposition"]
    assert "%E2%80%AE" not in answers[3].headers["content-disposition"]


async def test_the_raw_source_is_text_and_can_be_downloaded(house: House) -> None:
    raw = raw_mail(subject="Hi", html="<b>raw</b>")
    inbox_id = await add_mail(house, raw)
    async with house.operator() as client:
        page = await client.get(f"{path_of(house, inbox_id)}/source")
        assert "&lt;b&gt;raw&lt;/b&gt;" in page.text
        assert "<b>raw" not in page.text
        download = await client.get(f"{path_of(house, inbox_id)}/source.eml")
        assert download.content == raw
        assert download.headers["content-disposition"].startswith("attachment;")


async def test_everything_hostile_in_a_mail_is_escaped(house: House) -> None:
    raw = raw_mail(subject=HOSTILE, text=HOSTILE, html=HOSTILE, files=((HOSTILE, "text/plain", b"x"),))
    raw = raw.replace(b"From: Acme Billing", b'From: "<img src=x onerror=alert(1)>"')
    inbox_id = await add_mail(house, raw)
    path = path_of(house, inbox_id)
    async with house.operator() as client:
        pages = [
            (await client.get(p)).text for p in ("/dashboard/inbox", "/dashboard/inbox/live", path, f"{path}/source")
        ]
    for page in pages:
        assert "<img" not in page
        assert not re.search(r"<script(?! src=\"/dashboard/static/live.js\" defer></script>)", page)
        assert "&lt;" in page


async def test_each_answer_in_clear_is_recorded_and_a_poll_without_news_is_not(house: House) -> None:
    inbox_id = await add_mail(house, raw_mail(html="<p>Hi", files=(("a.txt", "text/plain", b"a"),)))
    path = path_of(house, inbox_id)
    async with house.operator() as client:
        page = (await client.get("/dashboard/inbox")).text
        etag = re.findall(r'data-etag="([^"]+)"', page)[0].replace("&#34;", '"')
        same = await client.get("/dashboard/inbox/live", headers={"if-none-match": etag})
        assert (same.status_code, same.content) == (304, b"")
        for address in (path, f"{path}/html", f"{path}/source", f"{path}/source.eml", f"{path}/attachments/0"):
            assert (await client.get(address)).status_code == 200
        await add_mail(house, raw_mail(subject="News"))
        fresh = await client.get("/dashboard/inbox/live", headers={"if-none-match": etag})
        assert "News" in fresh.text
    audit = await house.audit()
    assert {actor for actor, _, _ in audit} == {OPERATOR}
    assert [action for _, action, _ in audit] == [
        "dashboard.logged_in",
        "inbox.listed",
        "inbox.opened",
        "inbox.html_opened",
        "inbox.source_opened",
        "inbox.downloaded",
        "inbox.attachment_downloaded",
        "inbox.listed",
    ]


async def test_a_mail_that_does_not_open_or_is_large_leaves_the_list_standing(house: House) -> None:
    await add_mail(house, raw_mail(subject="Readable"))
    broken = await add_mail(house, raw_mail(subject="Broken"))
    large = await add_mail(house, raw_mail(subject="Large", text="x\n" * 300_000))
    await house.db.execute(
        "UPDATE inbox_mail SET sealed_raw = set_byte(sealed_raw, 60, get_byte(sealed_raw, 60) # 1) WHERE inbox_id = $1",
        broken,
    )
    async with house.operator() as client:
        page = (await client.get("/dashboard/inbox")).text
        assert "Readable" in page
        assert str(broken) in page
        assert "Large" not in page
        assert (await client.get(path_of(house, broken))).status_code == 500
        opened = (await client.get(path_of(house, large))).text
        assert "Large" in opened
        assert "The first 256 KB of" in (await client.get(f"{path_of(house, large)}/source")).text
