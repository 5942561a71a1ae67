"""Which admin keys open besides the current one: what the database says, with values from Secrets Manager."""

import asyncio

from email_gateway.errors import SecretUnavailable
from email_gateway.observe import get_logger
from email_gateway.secrets import Secret, SecretName, SecretsService
from email_gateway.secrets.admin_key import Deadline
from email_gateway.store.database import Queries
from email_gateway.store.secret_versions import AcceptedVersion, list_accepted

log = get_logger(__name__)


async def settle_admin_keys(db: Queries, secrets: SecretsService, recorded: str | None) -> None:
    """Let a process accept exactly the versions that the database names, besides the current one.

    `recorded` is the current version as this process has written it down: while it holds another one,
    the database does not know yet that the one before is former, and has no say. A version that this
    process never held is fetched by its VersionId; one that cannot be is refused.
    """
    if not secrets.can_change:
        return
    accepted = {each.version_id: _deadline(each) for each in await list_accepted(db, SecretName.ADMIN_API_KEY)}
    unknown = secrets.admin_keys.unknown(accepted)
    fetched = await asyncio.gather(*(_fetch(secrets, version_id) for version_id in unknown))
    if secrets.admin_keys.current_version == recorded:
        secrets.admin_keys.settle(accepted, {secret.version_id: secret for secret in fetched if secret})


async def _fetch(secrets: SecretsService, version_id: str) -> Secret | None:
    try:
        return await secrets.fetch_version(SecretName.ADMIN_API_KEY, version_id, is_former=True)
    except SecretUnavailable as error:
        log.warning("former_admin_key_not_fetched", version_id=version_id, error=error)
        return None


def _deadline(accepted: AcceptedVersion) -> Deadline:
    for_seconds = accepted.accepted_for.total_seconds() if accepted.accepted_for else 0.0
    staged_seconds = accepted.staged_for.total_seconds() if accepted.staged_for else 0.0
    return Deadline(for_seconds, staged_seconds)
