"""The gateway's own secrets: fetched, validated, kept fresh, and never shown.

`SecretsService` is the front; the rest of the house reads values from it and does not know where
they come from.
"""

from email_gateway.secrets.secret import Secret, SecretName
from email_gateway.secrets.service import SecretsService

__all__ = ["Secret", "SecretName", "SecretsService"]
