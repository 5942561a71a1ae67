"""A message that names a template becomes one that says it all itself: what is sealed and sent is final.

No I/O. Which templates a body names is known only once it is decoded, perhaps in another process: then
`TemplatesNeeded` asks for them, and the body is prepared again with them. Mail without a template pays nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from email_gateway.api.intake import Findings
from email_gateway.api.schemas import SendEmail, TemplateInput
from email_gateway.errors import InvalidRequest
from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.headers import parse_subject
from email_gateway.mail.templates import Rendered, Template, Value, choose_values, parse_value, render


class TemplatesNeeded(Exception):
    """The body names these templates (by id or alias), each so many times."""

    def __init__(self, names: Mapping[str, int]) -> None:
        super().__init__(f"{len(names)} templates")
        self.names = names


def require_templates(emails: Iterable[SendEmail], templates: Mapping[str, Template] | None) -> None:
    """Raise TemplatesNeeded when messages name templates and nobody has brought them."""
    if templates is None and (names := Counter(email.template.id for email in emails if email.template is not None)):
        raise TemplatesNeeded(names)


def rendered(email: SendEmail, templates: Mapping[str, Template] | None, at: str) -> SendEmail:
    """Return a message with the bodies of its template, and its sender, subject and reply-to where it has none.

    Raises InvalidRequest with every mistake about the template; `at` is where the message stands in the body.
    """
    if email.template is None:
        return email
    findings = Findings(at)
    for name in ("html", "text"):
        if getattr(email, name) is not None:
            findings.add(f"/{name}", "leave this field out: the template says it")
    template = (templates or {}).get(email.template.id)
    if template is None:
        findings.add("/template/id", "name a published template of yours, by its id or its alias")
    filled = _fill(template, email.template, findings) if template is not None else None
    if findings.faults or template is None or filled is None:
        raise InvalidRequest("the template cannot be sent like this", tuple(findings.faults))
    return msgspec.structs.replace(
        email,
        sender=(template.sender or msgspec.UNSET) if email.sender is msgspec.UNSET else email.sender,
        subject=filled.subject if email.subject is msgspec.UNSET and filled.subject is not None else email.subject,
        reply_to=(list(template.reply_to) or None) if email.reply_to is None else email.reply_to,
        html=filled.html,
        text=filled.text,
    )


def _fill(template: Template, given: TemplateInput, findings: Findings) -> Rendered | None:
    """Return what the template becomes, or note what is wrong with the values; each is named by the template's word."""
    at = "/template/variables"
    checked: dict[str, Value | None] = {}
    for variable in template.variables:
        value = (given.variables or {}).get(variable.key)
        if value is not None:
            kind = variable.kind
            checked[variable.key] = findings.read(f"{at}/{variable.key}", lambda v=value, k=kind: parse_value(v, k))  # type: ignore[misc]
    values, missing = choose_values(template.variables, checked)
    for key in missing:
        if key not in checked:
            findings.add(f"{at}/{key}", f"give {key} a value: it has no fallback")
    if findings.faults:
        return None
    try:
        filled = render(template, values)
        parse_subject(filled.subject or "")
    except InvalidValue as error:
        findings.add(at, str(error))
        return None
    return filled
