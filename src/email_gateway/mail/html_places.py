"""Where in an HTML template a variable may stand, so that no escaped value adds an element or an attribute.

An escaped value has none of `< > & " '`. It stays a value in text and in a quoted attribute; it does not in a
tag's name, beside its attributes, in an attribute without quotes, or in a style or script, whose text knows no
escapes. The walk below goes over the template as a browser's tokenizer does (HTML standard, section 13.2.5)
and refuses what browsers and mail programs read in different ways.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence

from email_gateway.mail.encoding import InvalidValue

_SPACE = r"\t\n\f\r "
# Before anything else a < is text. Before a variable, a value that begins with a letter would make a tag of it.
_OPENING = re.compile(r"<(?=[A-Za-z/!?{])")
_TAG = re.compile(rf"</?([A-Za-z][^{_SPACE}/>]*)")
# One attribute, or what stands between two of them. A value's quotes count only behind the equals sign.
_ATTRIBUTE = re.compile(
    rf"[{_SPACE}/]+|[^{_SPACE}/>][^{_SPACE}/>=]*"
    rf"(?:[{_SPACE}]*=[{_SPACE}]*(?:\"(?P<double>[^\"]*)(?:\"|\Z)|'(?P<single>[^']*)(?:'|\Z)|(?![>\"'])[^{_SPACE}>]+)?)?"
)
_CONDITION = re.compile(r"<!--\[if [^\]<>\"'{}]*\]>", re.IGNORECASE)
# Elements whose text knows no tags; in the first two it knows escapes.
_PLAIN_TEXT = frozenset({"title", "textarea"})
_RAW = frozenset({"style", "script", "xmp", "iframe", "noembed", "noframes", "noscript"})
# Behind a variable in a comment: with the value before it, it could end the comment.
_ENDS_COMMENTS = frozenset(("-", ">", "!", "{", ""))

Span = tuple[int, int]


def check_places(html: str, spans: Sequence[Span]) -> None:
    """Raise InvalidValue unless each variable (its start and end) stands in text or in a quoted attribute."""
    _Walk(html, spans).go(0, len(html))


class _Walk:
    """One walk over a template; `spans` come in their order."""

    def __init__(self, html: str, spans: Sequence[Span], *, is_in_comment: bool = False) -> None:
        self._html = html
        self._spans = spans
        self._ends = [end for _, end in spans]
        self._is_in_comment = is_in_comment
        self._marks: dict[str, int] = {}

    def go(self, at: int, end: int) -> None:
        """Walk from one place to another; what is between tags is text, where variables may stand."""
        while found := _OPENING.search(self._html, at, end):
            opening = found.start()
            if self._html.startswith("<!--", opening):
                at = self._pass_comment(opening, end)
            elif tag := _TAG.match(self._html, opening, end):
                at = self._pass_tag(tag, end)
            elif self._html.startswith(("<!", "<?", "</"), opening):
                at = self._pass_declaration(opening, end)
            else:
                at = opening + 1
                self._refuse_within(at, at + 1, "write &lt; for a < that stands before a variable")

    def _pass_tag(self, tag: re.Match[str], end: int) -> int:
        self._refuse_within(tag.start(), tag.end(), "leave variables out of the names of elements")
        at = tag.end()
        while at < end and self._html[at] != ">":
            attribute = _ATTRIBUTE.match(self._html, at, end)
            assert attribute is not None  # whatever is no space, slash or end is an attribute's name
            value = next((attribute.span(name) for name in ("double", "single") if attribute[name] is not None), None)
            outside = [attribute.span()] if value is None else [(at, value[0]), (value[1], attribute.end())]
            for begin, until in outside:
                self._refuse_within(begin, until, 'in a tag put variables into quotes: href="{{{LINK}}}"')
            at = attribute.end()
        name = tag[1].lower()
        if name == "plaintext":
            raise InvalidValue("remove the element plaintext: what follows it is not HTML")
        at = min(at + 1, end)
        return self._pass_raw(name, at, end) if name in _RAW | _PLAIN_TEXT and tag[0][1] != "/" else at

    def _pass_raw(self, name: str, at: int, end: int) -> int:
        """Pass what knows no tags. In places a browser does not know that (within `svg`), so it must have none."""
        closing = self._html.find("<", at, end)
        closing = end if closing < 0 else closing
        if closing < end and not re.compile(rf"</{name}[{_SPACE}/>]", re.IGNORECASE).match(self._html, closing):
            raise InvalidValue(f"remove every < from the text of the element {name}: the template has variables")
        if name in _RAW:
            self._refuse_within(at, closing, f"leave variables out of the element {name}: nothing is escaped there")
        return closing

    def _pass_comment(self, at: int, end: int) -> int:
        """Pass a comment; of a conditional one the inside is HTML to Outlook, and is walked as such."""
        # `<!-->` and `<!--->` are whole comments; `<!--!>` is the beginning of one.
        endings = [
            (place, place + len(mark))
            for mark, first in (("-->", at + 2), ("--!>", at + 4))
            if (place := self._find_mark(mark, first, end)) < end
        ]
        inner_end, until = min(endings, default=(end, end))
        if inside := self._find_within(at, until):
            condition = _CONDITION.match(self._html, at, until)
            if condition is None or self._is_in_comment:
                raise InvalidValue("leave variables out of comments")
            if any(self._html[span_end : span_end + 1] in _ENDS_COMMENTS for _, span_end in inside):
                raise InvalidValue("in a conditional comment put text or a tag behind a variable")
            _Walk(self._html, inside, is_in_comment=True).go(condition.end(), inner_end)
        return until

    def _find_mark(self, mark: str, at: int, end: int) -> int:
        """Return where a mark stands next, or the end. What was found is kept: many comments search for one mark."""
        if self._marks.get(mark, -1) < at:
            found = self._html.find(mark, at, end)
            self._marks[mark] = end if found < 0 else found
        return self._marks[mark]

    def _pass_declaration(self, at: int, end: int) -> int:
        if self._html.startswith("<![CDATA[", at):
            raise InvalidValue("remove CDATA: mail programs do not agree on where it ends")
        closing = self._html.find(">", at, end)
        until = end if closing < 0 else closing + 1
        self._refuse_within(at, until, "leave variables out of <!...>, <?...> and </...>")
        return until

    def _refuse_within(self, begin: int, until: int, advice: str) -> None:
        first = bisect_right(self._ends, begin)
        if first < len(self._spans) and self._spans[first][0] < until:
            raise InvalidValue(advice)

    def _find_within(self, begin: int, until: int) -> Sequence[Span]:
        first = bisect_right(self._ends, begin)
        return self._spans[first : bisect_right(self._ends, until)]
