"""The HTTP interface: authenticates, reads, validates, seals and hands over; it keeps no state of its own.

Callers see the shape of Resend's API under /v1; operators see /admin. What is stored and how is
the business of the store and the vault.
"""

from email_gateway.api.app import Api, build_api
from email_gateway.api.context import ApiContext, know_verified_domains

__all__ = ["Api", "ApiContext", "build_api", "know_verified_domains"]
