"""docs/runbook-coverage.md has a row for each point of the runbook, and what its rows name exists."""

import ast
import re
from decimal import Decimal
from functools import cache
from pathlib import Path

from typer.testing import CliRunner

from email_gateway.cli import app
from email_gateway.operator.template_files import list_templates
from tests.cli.test_help import EVERY_COMMAND

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbook-coverage.md").read_text()
# How many points each part of the runbook has, in its order; the last part is what it got wrong.
POINTS = (16, 6, 8, 6, 12, 4, 12, 10, 2, 10, 2, 1, 14)
NUMBERED = re.compile(r"^\| (\d+)\.(\d+) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
COMMAND = re.compile(r"`email-gateway ([a-z][^`]*)`")
TEMPLATE = re.compile(r"`([a-z-]+\.(?:yaml|json|service))`")
LINK = re.compile(r"\]\(([a-z-]*(?:\.md)?)(?:#([\w-]+))?\)")


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def anchors_of(page: str) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)


def test_every_point_of_the_runbook_has_a_row_under_the_heading_of_its_part() -> None:
    expected = [(part, point) for part, points in enumerate(POINTS, 1) for point in range(1, points + 1)]
    assert [(int(row[1]), int(row[2])) for row in NUMBERED.finditer(PAGE)] == expected
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert [part.partition(".")[0] for part in parts] == [str(number) for number in range(1, len(POINTS) + 1)]
    for number, part in enumerate(parts, 1):
        assert {row[1] for row in NUMBERED.finditer(part)} == {str(number)}


def test_every_row_says_what_does_it_now_and_names_a_test_that_exists() -> None:
    for row in NUMBERED.finditer(PAGE):
        cells = row[3].split(" | ")
        assert len(cells) == 3, row[0]
        assert all(cell.strip() for cell in cells), row[0]
        named = TEST.findall(cells[2])
        assert named, row[0]
        assert TEST.sub("", cells[2]).strip(", ") == "", row[0]
        for path, name in named:
            assert name.startswith("test_"), row[0]
            assert name in functions_of(path), row[0]


def test_every_command_template_and_heading_that_is_named_exists() -> None:
    for words in COMMAND.findall(PAGE):
        bare, _, option = words.partition(" --")
        assert any(f"{command} ".startswith(f"{bare} ") for command in EVERY_COMMAND), words
        told = CliRunner().invoke(app, [*bare.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        assert f"--{option}" in told, words
    assert set(TEMPLATE.findall(PAGE)) <= set(list_templates())
    for page, anchor in LINK.findall(PAGE):
        assert not anchor or anchor in anchors_of(page or "runbook-coverage.md"), (page, anchor)


def test_kms_requests_cost_what_the_page_says() -> None:
    # https://aws.amazon.com/kms/pricing/: 0.03 dollars for 10,000 requests, 20,000 a month are free.
    dollars = Decimal(69_120 - 20_000) / 10_000 * Decimal("0.03")
    page = " ".join((ROOT / "docs" / "aws.md").read_text().split())
    assert f"for the 69,120 calls above that is {dollars:.2f}" in page
