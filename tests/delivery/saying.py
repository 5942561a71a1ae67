"""Replies as a server sends them, for tables of samples."""

from email_gateway.delivery.reply_parser import Reply, ReplyParser


def reply_of(text: str) -> Reply:
    """Return the reply that a text is; a multi-line reply has its lines between CRLF."""
    replies: list[Reply] = []
    ReplyParser().feed(text.encode() + b"\r\n", replies)
    return replies[0]
