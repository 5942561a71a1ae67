"""The paths of operators and of the rotation function, under /admin. Part of the table in `routes`."""

from email_gateway.api import dead_letters, keys, queue, secrets, tenants, traces
from email_gateway.api.parameters import ID, LIMIT, MOMENT
from email_gateway.api.routing import Access, Query, Route

_DEAD_FILTER = (
    Query("tenant_id", "Of this tenant only.", ID),
    Query("reason", "Dead for this reason only.", {"type": "string"}),
    Query("domain", "To this domain only.", {"type": "string"}),
    Query("dead_before", "Dead before this moment only.", MOMENT),
)
_DEAD_PAGE = (LIMIT, Query("after", "Behind this dead letter's id.", {"type": "string"}), *_DEAD_FILTER)
DEAD_LETTERS = (
    Route(
        "GET",
        "/admin/dlq",
        dead_letters.list_dlq,
        Access.ADMIN,
        "List dead letters",
        dead_letters.DeadLetterList,
        parameters=_DEAD_PAGE,
    ),
    Route(
        "GET",
        "/admin/dlq/stats",
        dead_letters.get_dlq_stats,
        Access.ADMIN,
        "Count dead letters",
        dead_letters.DeadLetterStats,
        parameters=_DEAD_FILTER,
    ),
    Route(
        "POST",
        "/admin/dlq/retry",
        dead_letters.retry_dlq,
        Access.ADMIN,
        "Retry dead letters by filter",
        dead_letters.ActDone,
        body=dead_letters.BulkAct,
    ),
    Route(
        "POST",
        "/admin/dlq/discard",
        dead_letters.discard_dlq,
        Access.ADMIN,
        "Discard dead letters by filter",
        dead_letters.ActDone,
        body=dead_letters.BulkAct,
    ),
    Route(
        "GET",
        "/admin/dlq/{delivery_id}",
        dead_letters.get_dlq_delivery,
        Access.ADMIN,
        "Show a dead letter",
        dead_letters.DeadLetterDetail,
    ),
    Route(
        "POST",
        "/admin/dlq/{delivery_id}/retry",
        dead_letters.retry_dlq_delivery,
        Access.ADMIN,
        "Retry a dead letter",
        dead_letters.ActDone,
        body=dead_letters.SingleAct,
        is_body_optional=True,
    ),
    Route(
        "POST",
        "/admin/dlq/{delivery_id}/discard",
        dead_letters.discard_dlq_delivery,
        Access.ADMIN,
        "Discard a dead letter",
        dead_letters.ActDone,
        body=dead_letters.SingleAct,
        is_body_optional=True,
    ),
)
SECRETS = (
    Route("GET", "/admin/secrets", secrets.list_secrets, Access.ADMIN, "List the secrets held", secrets.SecretList),
    Route(
        "POST",
        "/admin/secrets/refresh",
        secrets.refresh_secrets,
        Access.ADMIN,
        "Read the secrets again, everywhere",
        secrets.SecretsRefreshed,
        body=secrets.RefreshSecrets,
        is_body_optional=True,
    ),
    Route(
        "POST",
        "/admin/secrets/stage",
        secrets.stage_secret,
        Access.ROTATION,
        "Let a pending admin key be tried",
        secrets.SecretStaged,
        body=secrets.StageSecret,
    ),
)
KEYS = (
    Route("GET", "/admin/keys", keys.get_keys, Access.ADMIN, "Show root keys and data keys", keys.KeysView),
    *(
        Route(
            "POST",
            f"/admin/keys/rotation/{step}",
            handler,
            Access.ROTATION,
            summary,
            keys.RotationStanding,
            body=keys.RotationStep,
        )
        for step, handler, summary in (
            ("stage", keys.stage_rotation, "Prepare the root key of a pending version"),
            ("verify", keys.verify_rotation, "Open every data key under a prepared root key"),
            ("complete", keys.complete_rotation, "Adopt what has become current"),
        )
    ),
)
QUEUE = (
    Route("GET", "/admin/queue", queue.get_queue, Access.ADMIN, "Show what waits and what is held", queue.QueueView),
    Route(
        "POST",
        "/admin/queue/hold",
        queue.hold_queue,
        Access.ADMIN,
        "Hold mail by hand",
        queue.Held,
        body=queue.HoldAct,
    ),
    Route(
        "POST",
        "/admin/queue/release",
        queue.release_queue,
        Access.ADMIN,
        "Release what is held by hand",
        queue.Held,
        body=queue.QueueAct,
    ),
    Route(
        "POST",
        "/admin/queue/flush",
        queue.flush_queue,
        Access.ADMIN,
        "Try now what waits",
        queue.FlushedView,
        body=queue.QueueAct,
    ),
    Route(
        "GET",
        "/admin/messages/{message_id}/trace",
        traces.get_trace,
        Access.ADMIN,
        "Tell a message's whole story",
        traces.TraceView,
    ),
)
TENANTS = (
    Route("GET", "/admin/tenants", tenants.list_all_tenants, Access.ADMIN, "List tenants", tenants.TenantList),
    Route(
        "POST",
        "/admin/tenants",
        tenants.add_tenant,
        Access.ADMIN,
        "Make a tenant",
        tenants.TenantView,
        201,
        tenants.NamedTenant,
        may_conflict=True,
    ),
    Route("GET", "/admin/tenants/{tenant_id}", tenants.show_tenant, Access.ADMIN, "Show a tenant", tenants.TenantView),
    Route(
        "PATCH",
        "/admin/tenants/{tenant_id}",
        tenants.change_tenant,
        Access.ADMIN,
        "Rename a tenant",
        tenants.TenantView,
        body=tenants.NamedTenant,
        may_conflict=True,
    ),
    *(
        Route(
            "POST",
            f"/admin/tenants/{{tenant_id}}/{act}",
            handler,
            Access.ADMIN,
            summary,
            tenants.TenantView,
            body=tenants.SuspensionAct,
            is_body_optional=True,
        )
        for act, handler, summary in (
            ("suspend", tenants.suspend, "Suspend a tenant"),
            ("resume", tenants.resume, "Resume a tenant"),
        )
    ),
    Route(
        "GET",
        "/admin/tenants/{tenant_id}/api-keys",
        tenants.list_tenant_keys,
        Access.ADMIN,
        "List a tenant's API keys",
        tenants.TenantKeyList,
    ),
    Route(
        "POST",
        "/admin/tenants/{tenant_id}/api-keys",
        tenants.add_tenant_key,
        Access.ADMIN,
        "Make an API key for a tenant",
        tenants.TenantKeyMade,
        201,
        tenants.CreateTenantKey,
    ),
    Route(
        "POST",
        "/admin/tenants/{tenant_id}/api-keys/{api_key_id}/rotate",
        tenants.rotate_tenant_key,
        Access.ADMIN,
        "Make an API key in another's place",
        tenants.TenantKeyMade,
        201,
        tenants.RotateTenantKey,
        is_body_optional=True,
        may_conflict=True,
    ),
    Route(
        "DELETE",
        "/admin/tenants/{tenant_id}/api-keys/{api_key_id}",
        tenants.revoke_tenant_key,
        Access.ADMIN,
        "Revoke a tenant's API key",
        tenants.TenantKeyView,
    ),
)
