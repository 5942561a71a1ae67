"""HTML as a browser reads it, by html5lib: which tags there are, with which attributes."""

from typing import Any

from html5lib import HTMLParser

Tag = tuple[str, str, tuple[str, ...]]


class _Recorder(HTMLParser):  # type: ignore[misc]  # html5lib ships no types
    """Keeps every tag that the tokenizer hands to the tree."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Tag] = []

    def normalizeToken(self, token: Any) -> Any:  # noqa: N802 - html5lib's own name
        if token["type"] in (3, 4, 5):  # StartTag, EndTag, EmptyTag
            self.tags.append((str(token["type"]), token["name"], tuple(name for name, _ in token["data"])))
        return super().normalizeToken(token)


def read_tags(html: str) -> list[Tag]:
    """Return every tag of a document, with the names of its attributes."""
    recorder = _Recorder()
    recorder.parse(html)
    return recorder.tags
