"""What of a personal value may stand on a page without being asked for."""

from email_gateway.mail.content import Address

DOTS = "•••"  # of one length always: the length of a name tells something too


def mask_address(address: str) -> str:
    """Return the first character and the domain: m•••@example.com."""
    local, _, domain = address.rpartition("@")
    first = local[:1] if len(local) > 1 else ""
    return f"{first}{DOTS}@{domain}"


def mask_text(text: str | None) -> str:
    """Return dots for anything, nothing for nothing."""
    return DOTS if text else ""


def show_address(address: Address) -> str:
    """Return the mailbox in clear, with its name where it has one."""
    return f"{address.name} <{address.email}>" if address.name else address.email
