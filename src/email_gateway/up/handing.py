"""What children are told through the pipe rather than through their environment."""

from dataclasses import fields

from email_gateway.settings import Settings


def secrets_of(settings: Settings) -> dict[str, str]:
    """Return the settings that may hold a credential, by name: those that stay out of the repr."""
    values = {field.name.upper(): getattr(settings, field.name) for field in fields(Settings) if not field.repr}
    return {name: value for name, value in values.items() if value is not None}
