"""What a busy hour looks like, for pictures."""

import math
from uuid import UUID

from email_gateway.mail.content import Address
from email_gateway.mail.deliveries import State
from tests.dashboard.house import House, add_event, add_mail, add_message, content, raw_mail, set_state

PEOPLE = (
    ("Maria Silva", "maria.silva@example.com"),
    ("João Pereira", "joao@correio.example"),
    ("Ana Beatriz Costa", "ana.costa@example.org"),
    ("Padaria Estrela", "contato@padaria.example"),
    ("Rui Nogueira", "rui@nogueira.example"),
)
SUBJECTS = ("Your invoice 1042", "Boleto de novembro", "Contract to sign", "Seu recibo", "Payment received")


async def fill_hour(house: House) -> UUID:
    """Store messages in every state, an hour of facts and mails in the inbox; return a bounced message."""
    ids = []
    for number, (name, address) in enumerate(PEOPLE * 3):
        mail = content(
            sender=Address("billing@acme.example", "Acme Billing"),
            envelope=(address,) if number % 4 else (address, "copies@acme.example", "accounting@acme.example"),
            subject=SUBJECTS[number % len(SUBJECTS)],
            to=(Address(address, name),),
            person_name=name,
        )
        message_id = await add_message(house, mail, tags=(("campaign", "november"),), tax_id=TAX_ID)
        await house.db.execute("UPDATE message SET size = $2 WHERE message_id = $1", message_id, 1800 + 911 * number)
        ids.append(message_id)
        await add_mail(house, raw_mail(subject=mail.subject), message_id)
    for message_id in ids[2:12]:
        await set_state(house, message_id, State.DELIVERED)
        await add_event(house, message_id, "sending")
        await add_event(house, message_id, "delivered")
    await set_state(house, ids[12], State.DEAD, reason="too many attempts")
    await set_state(house, ids[13], State.EXPIRED, reason="expired")
    bounced = ids[14]
    await add_event(house, bounced, "sending")
    await add_event(house, bounced, "deferred", reply="451 4.7.1 Greylisted, try again later")
    await add_event(house, bounced, "sending")
    await add_event(house, bounced, "bounced", reply="550 5.1.1 <rui@nogueira.example>: user unknown in our tables")
    await set_state(house, bounced, State.BOUNCED, reason="unknown_recipient")
    await _fill_chart(house, ids[2])
    return bounced


async def _fill_chart(house: House, message_id: UUID) -> None:
    for minute in range(1, 60):
        accepted = int(40 + 30 * math.sin(minute / 7) + 11 * math.sin(minute * 2.3))
        for kind, count in (
            ("accepted", accepted),
            ("delivered", max(0, accepted - minute % 5)),
            ("bounced", minute % 5),
        ):
            await house.db.execute(
                "INSERT INTO event (tenant_id, message_id, kind, at)"
                " SELECT $1, $2, $3, now() - $4 * interval '1 minute' FROM generate_series(1, $5)",
                house.tenant_id,
                message_id,
                kind,
                minute,
                count,
            )


def invoice_html() -> str:
    """An ordinary invoice, as a company would design it."""
    return """<!doctype html><body style="margin:0;background:#eef2f5;font-family:Arial,sans-serif">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr><td align="center" style="padding:28px">
<table role="presentation" width="520" style="max-width:100%;background:#fff;border-radius:10px;padding:28px">
<tr><td><h2 style="margin:0 0 12px;color:#0e3a5c">Invoice 1042</h2><p style="color:#334">Hello Maria,</p>
<p style="color:#334">your invoice over <b>R$ 1.250,00</b> is due on Friday, 27 November.</p>
<p><a href="https://acme.example/pay" style="background:#0e6670;color:#fff;padding:10px 18px;border-radius:6px;
text-decoration:none">See the boleto</a></p><p style="color:#778;font-size:13px">Acme Ltda, São Paulo</p></td></tr>
</table></td></tr></table></body>"""


TAX_ID = b"\x01\x0b52998224725\x00\x00\x00"
