"""Templates: which are refused, and that a value stays a value wherever it stands."""

import html
import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from email_gateway.mail.encoding import InvalidValue
from email_gateway.mail.headers import parse_subject
from email_gateway.mail.templates import (
    MAX_RENDERED_BYTES,
    Template,
    Variable,
    check_html,
    check_text,
    choose_values,
    parse_alias,
    parse_key,
    parse_value,
    render,
)
from tests.mail.html_reading import read_tags

NAME = (Variable("NAME", "string"), Variable("LINK", "string"))

PLACES = [
    ("in text", "<p>{{{NAME}}}</p>"),
    ("in two braces", "<p>{{NAME}}</p>"),
    ("with white space in the braces", "<p>{{{ NAME }}}</p>"),
    ("in a quoted attribute", '<a href="{{{LINK}}}?n={{{NAME}}}">'),
    ("in single quotes", "<a title = '{{{NAME}}}'>"),
    ("in the title", "<title>{{{NAME}}}</title>"),
    ("behind a style", "<style>p > a { color: red }</style>{{{NAME}}}"),
    ("behind a doctype", "<!DOCTYPE html><p>{{{NAME}}}"),
    ("behind a comment", "<!-- a > b -->{{{NAME}}}<!-->{{{NAME}}}<!--->"),
    ("behind a smaller-than sign with a space", "1 < 2 {{{NAME}}}"),
    ("within a single brace", "{ {{{NAME}}} }"),
    ("for Outlook", '<!--[if mso]><v:rect href="{{{LINK}}}"><center>{{{NAME}}}</center></v:rect><![endif]-->'),
    ("for all but Outlook", "<!--[if !mso]><!--><p>{{{NAME}}}</p><!--<![endif]-->"),
    ("in an unclosed attribute", '<p title="{{{NAME}}}'),
]
MISPLACED = [
    ("as an element's name", "<{{{NAME}}}>"),
    ("in an element's name", "<h{{{NAME}}}>"),
    ("in the name of an end tag", "</{{{NAME}}}>"),
    ("as an attribute", "<p {{{NAME}}}>"),
    ("in an attribute's name", "<p data-{{{NAME}}}=x>"),
    ("without quotes", "<p title={{{NAME}}}>"),
    ("partly without quotes", "<p title=a{{{NAME}}}>"),
    ("behind a quoted value", '<p title="a"{{{NAME}}}>'),
    ("behind a quote that opens nothing", "<p title=a' {{{NAME}}} 'b>"),
    ("in a quote of an attribute's name", "<p a'{{{NAME}}}'>"),
    ("in an end tag", "</p {{{NAME}}}>"),
    ("in a declaration", "<!DOCTYPE {{{NAME}}}>"),
    ("in an instruction", "<?xml {{{NAME}}}?>"),
    ("in a comment", "<!-- {{{NAME}}} -->"),
    ("at the end of a conditional comment", "<!--[if mso]>{{{NAME}}}--><p>"),
    ("before the end of a conditional comment", "<!--[if mso]>--{{{NAME}}}> <p>"),
    ("before another at the end", "<!--[if mso]>{{{NAME}}}{{{LINK}}}>"),
    ("unquoted, for Outlook", "<!--[if mso]><a href={{{LINK}}}>x</a><![endif]-->"),
    ("in a comment within one", "<!--[if mso]><!--[if mso]> {{{NAME}}} <![endif]-->"),
    ("in a comment that began with --!>", "<!--!>{{{NAME}}}>"),
    ("in a style", "<style>p { color: {{{NAME}}} }</style>"),
    ("in a script", "<script>f({{{NAME}}})</script>"),
    ("behind a tag in the title", "<title><b>{{{NAME}}}</title>"),
    ("beside a tag in a style", "<svg><style><p a=\"</style><b c='\" {{{NAME}}} '>"),
    ("behind plaintext", "<plaintext>{{{NAME}}}"),
    ("in CDATA", "<svg><![CDATA[ > {{{NAME}}} ]]></svg>"),
]


@pytest.mark.parametrize("text", [html for _, html in PLACES], ids=[name for name, _ in PLACES])
def test_a_variable_may_stand_here(text: str) -> None:
    check_html(text, NAME)


@pytest.mark.parametrize("text", [html for _, html in MISPLACED], ids=[name for name, _ in MISPLACED])
def test_a_variable_may_not_stand_here(text: str) -> None:
    with pytest.raises(InvalidValue):
        check_html(text, NAME)


def test_html_without_variables_is_taken_as_it_is() -> None:
    check_html("<style><!-- p {} --></style><plaintext><p title=a'b>", NAME)


@pytest.mark.parametrize(
    "text",
    ["{{#if NAME}}", "{{NAME", "{{{NAME|you}}}", "{{user.name}}", "{{}}", "{{ NAME | upper }}", "{{&NAME}}", "{{{{"],
)
def test_logic_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="no blocks and no filters"):
        check_text(text, NAME)


@pytest.mark.parametrize(
    ("text", "words"), [("{{{OTHER}}}", "declare OTHER"), ("{{{FIRST_NAME}}}", "FIRST_NAME is reserved")]
)
def test_a_variable_that_the_template_does_not_have_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        check_text(text, NAME)


@pytest.mark.parametrize(
    "key", ["", "a b", "é", "x" * 51, "a-b", "FIRST_NAME", "LAST_NAME", "EMAIL", "UNSUBSCRIBE_URL", "contact", "this"]
)
def test_a_key_that_is_none_or_reserved_is_refused(key: str) -> None:
    with pytest.raises(InvalidValue):
        parse_key(key)


@pytest.mark.parametrize("alias", ["", "a/b", "é", "-a", "x" * 101, "00000000-0000-7000-8000-000000000000"])
def test_an_alias_that_cannot_stand_in_a_path_or_looks_like_an_id_is_refused(alias: str) -> None:
    with pytest.raises(InvalidValue):
        parse_alias(alias)
    assert parse_alias("order-confirmation_2.x") == "order-confirmation_2.x"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "string"), (True, "number"), ("1", "number"), ("true", "boolean"), (1, "boolean"),
        ("x" * 2001, "string"), (2**53, "number"), (-(2**53), "number"), (2**53, "string"), (1e300, "number"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_size_is_refused(value: str | int | float | bool, kind: str) -> None:
    with pytest.raises(InvalidValue):
        parse_value(value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [("a", "string", "a"), (5, "string", "5"), (5, "number", "5"), (5.0, "number", "5"), (19.9, "number", "19.9"),
     (-(2**53) + 1, "number", "-9007199254740991"), (True, "boolean", "true"), (False, "boolean", "false"), ("", "string", "")],
)  # fmt: skip
def test_a_value_is_written_as_it_is_read(value: str | int | float | bool, kind: str, text: str) -> None:
    variable = Variable("A", kind)
    assert choose_values((variable,), {"A": parse_value(value, kind)}) == ({"A": text}, [])


def test_fallbacks_stand_in_and_what_has_none_is_named() -> None:
    variables = (
        Variable("A", "string", ""),
        Variable("B", "number", 0),
        Variable("C", "boolean", False),
        Variable("D", "string"),
    )
    assert choose_values(variables, {"A": None, "X": "not of this template"}) == (
        {"A": "", "B": "0", "C": "false"},
        ["D"],
    )


def test_values_are_escaped_in_html_alone_and_are_not_read_again() -> None:
    template = Template(html="<p>{{{NAME}}}", text="{{NAME}}", subject="Hello {{{NAME}}}", variables=NAME)
    rendered = render(template, {"NAME": "<b>&\"'{{{LINK}}}", "LINK": "x"})
    assert rendered.html == "<p>&lt;b&gt;&amp;&quot;&#x27;{{{LINK}}}"
    assert rendered.text == "<b>&\"'{{{LINK}}}"
    assert rendered.subject == "Hello <b>&\"'{{{LINK}}}"


def test_what_a_message_becomes_is_measured_before_it_is_made() -> None:
    template = Template(html="{{NAME}}" * 100_000, variables=NAME)
    with pytest.raises(InvalidValue, match="1024 KiB"):
        render(template, {"NAME": "x" * 2000})
    assert len(render(template, {"NAME": "x"}).html) < MAX_RENDERED_BYTES


def test_no_repr_shows_what_a_template_or_a_message_says() -> None:
    template = Template(html="SECRET", variables=NAME)
    assert "SECRET" not in repr(template) + repr(render(template, {}))


@pytest.mark.parametrize(
    "piece",
    ["<!---->", "<!--!>", "<a b='", '<a b="c" ', "<a ", "<", "</", "<!", "{{", "{{{", "{{ ", "{{a", "<style></style>", "-->",
     "<!--[if x]>", "<p =", "<title>", "='", "<a\t"],
)  # fmt: skip
def test_no_template_takes_long_to_read(piece: str) -> None:
    source = "{{{NAME}}}" + piece * (262_144 // len(piece)) + "{{{NAME}}}"
    began = time.process_time()
    with suppress(InvalidValue):
        check_html(source, NAME)
    assert time.process_time() - began < 20  # of this processor's own time; what is quadratic takes minutes of it


PIECES = [
    "{{{NAME}}}", "{{LINK}}", "{{{NAME}}}", "<p>", "<p ", "<a title=", '"', "'", ">", "/>", "</p>", "</", "<", "<!--", "-->",
    "--!>", "--", "-", "!", "<!", "<?", "<!--[if mso]>", "<![endif]-->", "<style>", "</style>", "<title>", "</title>",
    "<script>", "</script>", "<svg>", "</svg>", "<select>", "<textarea>", "</textarea>", "<table>", "<noscript>",
    "<![CDATA[", "]]>", "=", " ", "x", "/", "&", "&lt;", "<xmp>", "<b a='", "\n",
]  # fmt: skip
NASTY = st.text(alphabet=st.sampled_from("<>\"'&=/!-? \n\tab`{}[];"), max_size=12)
VALUES = st.one_of(
    NASTY,
    st.text(max_size=8),
    st.sampled_from(['"><script>', "' onclick='x", "-->", "--", "-", "b", "!--", "/title", "lt;"]),
)


SOURCES = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)


@given(SOURCES, SOURCES, VALUES, VALUES)
def test_no_value_adds_an_element_or_an_attribute(before: str, behind: str, name: str, link: str) -> None:
    source = f"{before}{{{{{{NAME}}}}}}{behind}"
    try:
        check_html(source, NAME)
    except InvalidValue:
        return
    template = Template(html=source, variables=NAME)
    expected = read_tags(render(template, {"NAME": "x", "LINK": "x"}).html)
    assert read_tags(render(template, {"NAME": name, "LINK": link}).html) == expected


@given(VALUES)
def test_a_value_is_read_back_as_it_was(value: str) -> None:
    shown = render(Template(html='<a href="{{{NAME}}}">{{{NAME}}}</a>', variables=NAME), {"NAME": value}).html
    attribute, text = re.fullmatch(r'<a href="([^"]*)">([^<]*)</a>', shown, re.DOTALL).groups()  # type: ignore[union-attr]
    assert html.unescape(attribute) == html.unescape(text) == html.unescape(html.escape(value))


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\r\n:\0\x0b\u2028")), max_size=40))
def test_no_value_can_break_a_subject(value: str) -> None:
    subject = render(Template(html="", subject="Hello {{{NAME}}}", variables=NAME), {"NAME": value}).subject or ""
    try:
        assert not re.search(r"[\r\n\0\x0b\x0c\x85\u2028\u2029]", parse_subject(subject))
    except InvalidValue:
        assert "".join(subject.split()) != subject or not subject.isprintable()
