"""Templates under /v1/templates, in Resend's JSON: create, read, change, publish, duplicate, delete; and load to send."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET
from uuid_utils.compat import uuid7

from email_gateway.api.calls import Call, Reply, is_id, parse_page
from email_gateway.api.context import ApiContext
from email_gateway.api.decoding import BodyDecoder, check_json
from email_gateway.api.intake import Findings
from email_gateway.api.schemas import MAX_RECIPIENTS
from email_gateway.api.template_schemas import (
    MAX_NAME_CHARACTERS,
    CreateTemplate,
    TemplateDeleted,
    TemplateId,
    TemplateList,
    TemplateSummary,
    TemplateView,
    UpdateTemplate,
    VariableInput,
    VariableView,
)
from email_gateway.errors import Conflict, InvalidRequest, NotFound
from email_gateway.mail.addresses import parse_address
from email_gateway.mail.encoding import UNSAFE_IN_NAMES, InvalidValue
from email_gateway.mail.headers import parse_body, parse_subject
from email_gateway.mail.templates import (
    MAX_VARIABLES,
    Template,
    Value,
    Variable,
    check_html,
    check_text,
    parse_alias,
    parse_key,
    parse_value,
)
from email_gateway.store import templates as store
from email_gateway.store.templates import Name, StoredTemplate, Version

FIELD = "template.content"
KINDS = ("string", "number", "boolean")
# Others may change a template between our reading and our writing; so often, we look again.
TRIES = 5
OFF_LOOP_CHARACTERS = 16 * 1024

_CONTENT = msgspec.msgpack.Decoder(Template)
_PACK = msgspec.msgpack.Encoder().encode
_ENCODE = msgspec.json.Encoder().encode

_CREATE = BodyDecoder[CreateTemplate](CreateTemplate)
_UPDATE = BodyDecoder[UpdateTemplate](UpdateTemplate)


async def create_template(context: ApiContext, call: Call) -> Reply:
    """Make a template, as a draft: publish it before it is sent."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _CREATE.decode(body)
    findings = Findings()
    name, alias = _read_names(wanted.name, wanted.alias, findings)
    content = await _check(call, wanted, findings)
    if content is None or findings.faults:
        raise InvalidRequest("the template is not valid", tuple(findings.faults))
    template_id: UUID = uuid7()
    await store.add_template(
        context.db, call.tenant_id, template_id, name, alias, await _seal(context, call.tenant_id, content)
    )
    return _id_reply(template_id, 201)


async def get_template(context: ApiContext, call: Call) -> Reply:
    """Return a template with its draft, or what is published where there is no newer draft."""
    template, content = await _read(context, call)
    return Reply(200, _ENCODE(_view(template, content)))


async def list_templates(context: ApiContext, call: Call) -> Reply:
    """Return a page of templates, newest first, without what they say."""
    templates, has_more = await store.list_templates(context.db, call.tenant_id, parse_page(call.query()))
    return Reply(200, _ENCODE(TemplateList(has_more, [TemplateSummary(**_summary(one)) for one in templates])))


async def update_template(context: ApiContext, call: Call) -> Reply:
    """Change a template's draft; messages are sent as it was published until it is published again."""
    body = await call.read_small_body()
    check_json(call.headers, body)
    wanted = _UPDATE.decode(body)
    for _ in range(TRIES):
        template, content = await _read(context, call)
        findings = Findings()
        name, alias = _read_names(
            template.name if wanted.name is UNSET else wanted.name,
            template.alias if wanted.alias is UNSET else wanted.alias,
            findings,
        )
        changed = await _check(call, _merged(content, wanted), findings)
        if changed is None or findings.faults:
            raise InvalidRequest("the template is not valid", tuple(findings.faults))
        version = await _seal(context, call.tenant_id, changed)
        if await store.update_template(context.db, template, name, alias, version):
            return _id_reply(template.template_id)
    raise Conflict("others are changing this template: read it and try again")


async def publish_template(context: ApiContext, call: Call) -> Reply:
    """Have the draft sent from now on."""
    return _id_reply(await store.publish_template(context.db, call.tenant_id, _name(call)))


async def duplicate_template(context: ApiContext, call: Call) -> Reply:
    """Make a draft that says the same under another name and no alias."""
    template, content = await _read(context, call)
    template_id: UUID = uuid7()
    name = f"{template.name[: MAX_NAME_CHARACTERS - len(' (copy)')]} (copy)"
    version = await _seal(context, call.tenant_id, content)
    await store.add_template(context.db, call.tenant_id, template_id, name, None, version)
    return _id_reply(template_id, 201)


async def delete_template(context: ApiContext, call: Call) -> Reply:
    """Delete a template; what was sent by it stays as it is."""
    template_id = await store.delete_template(context.db, call.tenant_id, _name(call))
    return Reply(200, _ENCODE(TemplateDeleted(str(template_id))))


async def load_templates(context: ApiContext, call: Call, names: Mapping[str, int]) -> dict[str, Template]:
    """Return the published templates of these names (ids or aliases); those that there are none of are left out.

    `names` says how often each is used: so much is counted against the tenant before it is made.
    """
    found: dict[str, Template] = {}
    for text, uses in names.items():
        name = _find_name(text)
        published = await store.find_published(context.db, call.tenant_id, name) if name is not None else None
        if published is not None:
            packed = await context.keyring.open(call.tenant_id, FIELD, published.version_id, published.sealed)
            call.hold(uses * len(packed))
            found[text] = _CONTENT.decode(packed)
    return found


async def _read(context: ApiContext, call: Call) -> tuple[StoredTemplate, Template]:
    template, sealed = await store.get_template(context.db, call.tenant_id, _name(call))
    packed = await context.keyring.open(template.tenant_id, FIELD, template.current_version_id, sealed)
    return template, _CONTENT.decode(packed)


async def _seal(context: ApiContext, tenant_id: UUID, content: Template) -> Version:
    version_id: UUID = uuid7()
    keys = await context.keyring.tenant(tenant_id)
    return Version(version_id, keys.seal(FIELD, version_id, _PACK(content)))


def _name(call: Call) -> Name:
    name = _find_name(call.params["template_id"])
    if name is None:
        raise NotFound("no such template")
    return name


def _find_name(text: str) -> Name | None:
    if is_id(text):
        return Name(UUID(text), None)
    try:
        return Name(None, parse_alias(text))
    except InvalidValue:
        return None


def _read_names(name: str, alias: str | None, findings: Findings) -> tuple[str, str | None]:
    if not name.strip() or UNSAFE_IN_NAMES.search(name):
        findings.add("/name", "use characters that can be seen, and no control characters")
    return name, None if alias is None else findings.read("/alias", lambda: parse_alias(alias))


def _merged(content: Template, wanted: UpdateTemplate) -> CreateTemplate:
    """Return the whole template as it is to be, to be checked like a new one."""
    before = {
        "html": content.html,
        "text": content.text,
        "subject": content.subject,
        "sender": content.sender,
        "reply_to": list(content.reply_to),
        "variables": [VariableInput(one.key, one.kind, one.fallback) for one in content.variables],
    }
    changes = {name: value for name in before if (value := getattr(wanted, name)) is not UNSET}
    return CreateTemplate(name="", **{**before, **changes})


async def _check(call: Call, wanted: CreateTemplate, findings: Findings) -> Template | None:
    """Check what a template says; a large one beside the event loop, one at a time."""
    if len(wanted.html) + len(wanted.text or "") <= OFF_LOOP_CHARACTERS:
        return _read_content(wanted, findings)
    async with call.budget.in_thread:
        return await asyncio.to_thread(_read_content, wanted, findings)


def _read_content(wanted: CreateTemplate, findings: Findings) -> Template | None:
    variables = _read_variables(wanted.variables or [], findings)
    if findings.faults:
        return None  # whether the texts fit the variables is told when these are right
    subject, text, sender = wanted.subject, wanted.text, wanted.sender
    findings.read("/html", lambda: check_html(parse_body(wanted.html), variables))
    if text is not None:
        findings.read("/text", lambda: check_text(parse_body(text), variables))
    if subject is not None:
        findings.read("/subject", lambda: check_text(parse_subject(subject), variables))
    if sender is not None:
        findings.read("/from", lambda: _parse_fixed_address(sender))
    reply_to = [wanted.reply_to] if isinstance(wanted.reply_to, str) else wanted.reply_to or []
    if len(reply_to) > MAX_RECIPIENTS:
        findings.add("/reply_to", f"give at most {MAX_RECIPIENTS} addresses")
        return None
    for index, address in enumerate(reply_to):
        findings.read(f"/reply_to/{index}", lambda one=address: _parse_fixed_address(one))  # type: ignore[misc]
    return Template(
        html=wanted.html,
        text=text,
        subject=subject,
        sender=sender,
        reply_to=tuple(reply_to),
        variables=variables,
    )


def _parse_fixed_address(text: str) -> None:
    if "{{" in text:
        raise InvalidValue("write the address out: variables stand in subject, html and text")
    parse_address(text)


def _read_variables(given: list[VariableInput], findings: Findings) -> tuple[Variable, ...]:
    if len(given) > MAX_VARIABLES:
        findings.add("/variables", f"give at most {MAX_VARIABLES} variables")
        return ()
    variables = tuple(_read_variable(one, f"/variables/{index}", findings) for index, one in enumerate(given))
    if len({one.key for one in variables}) < len(variables):
        findings.add("/variables", "give each key once")
    return variables


def _read_variable(given: VariableInput, at: str, findings: Findings) -> Variable:
    findings.read(f"{at}/key", lambda: parse_key(given.key))
    fallback: Value | None = given.fallback_value
    if given.type not in KINDS:
        findings.add(f"{at}/type", "use string, number or boolean: there is no logic that could show lists or objects")
    elif fallback is not None:
        findings.read(f"{at}/fallback_value", lambda: parse_value(fallback, given.type))
    return Variable(given.key, given.type, fallback)


def _summary(template: StoredTemplate) -> dict[str, Any]:
    return {
        "id": str(template.template_id),
        "name": template.name,
        "alias": template.alias,
        "status": "draft" if template.published_version_id is None else "published",
        "created_at": template.created_at,
        "updated_at": template.updated_at,
        "published_at": template.published_at,
    }


def _view(template: StoredTemplate, content: Template) -> TemplateView:
    return TemplateView(
        **_summary(template),
        current_version_id=str(template.current_version_id),
        has_unpublished_versions=template.published_version_id != template.current_version_id,
        sender=content.sender,
        subject=content.subject,
        reply_to=list(content.reply_to) or None,
        html=content.html,
        text=content.text,
        variables=[
            VariableView(
                id=str(uuid5(template.template_id, one.key)),
                key=one.key,
                type=one.kind,
                fallback_value=one.fallback,
                created_at=template.created_at,
                updated_at=template.updated_at,
            )
            for one in content.variables
        ],
    )


def _id_reply(template_id: UUID, status: int = 200) -> Reply:
    return Reply(status, _ENCODE(TemplateId(str(template_id))))
