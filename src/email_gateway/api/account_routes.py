"""The paths of what a tenant keeps here beside its mail: templates and webhooks. Part of the table in `routes`."""

from email_gateway.api import templates, webhook_events, webhooks
from email_gateway.api.parameters import PAGE
from email_gateway.api.routing import Access, Route
from email_gateway.api.template_schemas import (
    CreateTemplate,
    TemplateDeleted,
    TemplateId,
    TemplateList,
    TemplateView,
    UpdateTemplate,
)
from email_gateway.api.webhook_schemas import (
    AttemptList,
    CreateWebhook,
    UpdateWebhook,
    WebhookDeleted,
    WebhookEventId,
    WebhookEventList,
    WebhookId,
    WebhookList,
    WebhookSecret,
    WebhookView,
)

TEMPLATES = (
    Route(
        "POST",
        "/v1/templates",
        templates.create_template,
        Access.FULL,
        "Make a template",
        TemplateId,
        201,
        CreateTemplate,
    ),
    Route(
        "GET",
        "/v1/templates",
        templates.list_templates,
        Access.FULL,
        "List templates",
        TemplateList,
        parameters=PAGE,
    ),
    Route("GET", "/v1/templates/{template_id}", templates.get_template, Access.FULL, "Read a template", TemplateView),
    Route(
        "PATCH",
        "/v1/templates/{template_id}",
        templates.update_template,
        Access.FULL,
        "Change a template's draft",
        TemplateId,
        body=UpdateTemplate,
    ),
    Route(
        "DELETE",
        "/v1/templates/{template_id}",
        templates.delete_template,
        Access.FULL,
        "Delete a template",
        TemplateDeleted,
    ),
    Route(
        "POST",
        "/v1/templates/{template_id}/publish",
        templates.publish_template,
        Access.FULL,
        "Send a template as it is now",
        TemplateId,
    ),
    Route(
        "POST",
        "/v1/templates/{template_id}/duplicate",
        templates.duplicate_template,
        Access.FULL,
        "Copy a template",
        TemplateId,
        201,
    ),
)
WEBHOOKS = (
    Route(
        "POST",
        "/v1/webhooks",
        webhooks.create_webhook,
        Access.FULL,
        "Make a webhook",
        WebhookSecret,
        201,
        CreateWebhook,
    ),
    Route("GET", "/v1/webhooks", webhooks.list_webhooks, Access.FULL, "List webhooks", WebhookList, parameters=PAGE),
    Route("GET", "/v1/webhooks/{webhook_id}", webhooks.get_webhook, Access.FULL, "Read a webhook", WebhookView),
    Route(
        "PATCH",
        "/v1/webhooks/{webhook_id}",
        webhooks.update_webhook,
        Access.FULL,
        "Change a webhook",
        WebhookId,
        body=UpdateWebhook,
    ),
    Route(
        "DELETE", "/v1/webhooks/{webhook_id}", webhooks.delete_webhook, Access.FULL, "Delete a webhook", WebhookDeleted
    ),
    Route(
        "POST",
        "/v1/webhooks/{webhook_id}/signing-secret/rotate",
        webhooks.rotate_webhook_secret,
        Access.FULL,
        "Give a webhook another secret",
        WebhookSecret,
    ),
    Route(
        "GET",
        "/v1/webhooks/{webhook_id}/events",
        webhook_events.list_webhook_events,
        Access.FULL,
        "List what was sent to a webhook",
        WebhookEventList,
        parameters=PAGE[:2],
    ),
    Route(
        "GET",
        "/v1/webhooks/{webhook_id}/events/{event_id}/attempts",
        webhook_events.list_webhook_attempts,
        Access.FULL,
        "Read what an endpoint answered",
        AttemptList,
    ),
    Route(
        "POST",
        "/v1/webhooks/{webhook_id}/events/{event_id}/replay",
        webhook_events.replay_webhook_event,
        Access.FULL,
        "Send an event again",
        WebhookEventId,
    ),
)
