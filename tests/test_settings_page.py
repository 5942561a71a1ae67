"""docs/settings.md says of every setting what the program says."""

from pathlib import Path

from email_gateway.settings import describe_settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def test_the_page_lists_every_setting_with_its_default_and_sentence() -> None:
    cells = [line.replace("\\|", "|").replace("`", "") for line in PAGE.read_text().splitlines()]
    for name, default, sentence in describe_settings():
        assert f"| {name} | {default} | {sentence} |".replace("`", "") in cells
