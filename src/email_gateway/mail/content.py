"""The content of a message as it is sealed: one MessagePack map whose keys never change."""

import msgspec


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox: `email` with its domain in lower-case A-labels, and the name shown beside it."""

    email: str
    name: str | None = None

    def __repr__(self) -> str:
        return "Address(...)"

    @property
    def domain(self) -> str:
        return self.email.rpartition("@")[2]


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attached file, sealed on its own: the name is as personal as the bytes."""

    filename: str
    content_type: str
    data: bytes
    content_id: str | None = None

    def __repr__(self) -> str:
        return f"Attachment({len(self.data)} bytes)"


class AttachmentSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a list shows of an attachment, sealed beside it."""

    filename: str
    content_type: str
    content_id: str | None = None

    def __repr__(self) -> str:
        return "AttachmentSummary(...)"


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything personal about a message but its tax id and attachments, sealed as one value.

    `envelope` holds each distinct recipient address once, in the order to, cc, bcc; a delivery
    names its recipient by the position in it.
    """

    sender: Address
    envelope: tuple[str, ...]
    subject: str
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    html: str | None = None
    text: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    person_name: str | None = None
    external_id: str | None = None

    def __repr__(self) -> str:
        return f"Content({len(self.envelope)} recipients)"
