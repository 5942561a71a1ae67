"""`email-gateway doctor`: is everything well that the gateway stands on, and if not, what to do next."""

import asyncio
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from email_gateway.cli.connecting import load_with_keys, open_home
from email_gateway.cli.exits import DONE, FAILED
from email_gateway.cli.options import AsJson, HomeDir, examples
from email_gateway.cli.printing import print_json, say
from email_gateway.errors import ConfigurationError
from email_gateway.operator.doctor import Finding, Level, Report, Subject, report_settings
from email_gateway.operator.doctor.examination import examine

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

WIDTH = 80
WORDS = {Level.OK: "OK", Level.WARNING: "warning", Level.BROKEN: "BROKEN", Level.SKIPPED: "-"}

ForProduction = Annotated[bool, typer.Option("--production", help="Go through the production checklist as well.")]


@app.command(
    epilog=examples(
        "email-gateway doctor",
        "email-gateway doctor --production",
        "email-gateway doctor --json | python3 -m json.tool",
    )
)
def doctor(home: HomeDir = None, production: ForProduction = False, as_json: AsJson = False) -> None:
    """Look at AWS, the secrets, PostgreSQL, Redis and the smarthost, and name the next command for what is wrong.

    Run it where the gateway runs, with the same settings. It changes nothing, sends no mail, and
    shows no secret. Exits with 1 when something is broken, else with 0. See docs/doctor.md.
    """
    try:
        report = asyncio.run(examine(_find_subject(home, production)))
    except ConfigurationError as error:
        report = report_settings(error)
    if as_json:
        print_json(
            {
                "status": report.level,
                "took_seconds": round(report.took_seconds, 3),
                "checks": list(map(asdict, report.findings)),
            }
        )
    else:
        say(render(report))
    raise typer.Exit(FAILED if report.level is Level.BROKEN else DONE)


def _find_subject(home: Path | None, production: bool) -> Subject:
    settings = load_with_keys(home)
    place = open_home(home)
    runtime = place.find_runtime()
    if runtime is None:
        return Subject(settings, is_production=production)
    is_its_own = runtime.migrations_url not in (None, runtime.database_url)
    return Subject(
        settings,
        home_url=runtime.database_url,
        prefers_home=home is not None,
        data=place.path if is_its_own else None,
        is_production=production,
    )


def render(report: Report) -> str:
    """Return the list of checks, and below it for each that is not well what it means and the next command.

    Lines have at most 80 columns but for commands, which are to be copied.
    """
    longest = max(len(finding.check) for finding in report.findings)
    lines = [_line(finding, longest) for finding in report.findings]
    for finding in report.findings:
        if finding.level in (Level.WARNING, Level.BROKEN):
            lines += ["", *_explain(finding)]
    count = {level: sum(finding.level is level for finding in report.findings) for level in Level}
    total = (
        f"{count[Level.OK]} OK, {count[Level.WARNING]} warnings, {count[Level.BROKEN]} broken,"
        f" {count[Level.SKIPPED]} not looked at, in {report.took_seconds:.1f} s"
    )
    return "\n".join([*lines, "", total])


def _line(finding: Finding, longest: int) -> str:
    indent = " " * (longest + 11)
    text = finding.seen.partition("\n")[0].rstrip(":")
    return textwrap.fill(
        text, WIDTH, initial_indent=f"{WORDS[finding.level]:<7}  {finding.check:<{longest}}  ", subsequent_indent=indent
    )


def _explain(finding: Finding) -> list[str]:
    paragraphs = [
        f"{WORDS[finding.level]}: {finding.check}",
        *_fill("seen", finding.seen),
        *_fill("means", finding.means),
    ]
    return [*paragraphs, f"  next   {finding.next_step}"]


def _fill(label: str, text: str) -> list[str]:
    """Return the text under its label; lines of its own, as a list of problems has, stay lines."""
    first, *more = text.splitlines()
    indent = " " * 9
    filled = [textwrap.fill(first, WIDTH, initial_indent=f"  {label:<5}  ", subsequent_indent=indent)]
    return filled + [textwrap.fill(line, WIDTH, initial_indent=indent, subsequent_indent=indent) for line in more]
