"""The pictures of the documentation show what the program prints, and are small."""

import html
import re
from pathlib import Path

import pytest

from docs.img.make import FLEET, FLEETS, GOLDEN, HERE

LIMIT = 1_000_000  # bytes, of all together


def words(picture: Path) -> list[str]:
    """What stands in a picture that rich drew."""
    rows = re.findall(r"<text [^>]*>(.*?)</text>", picture.read_text("utf-8"), re.DOTALL)
    return html.unescape(" ".join(rows)).replace("\xa0", " ").split()


@pytest.mark.parametrize("name", FLEETS)
def test_the_fleet_is_as_it_is_printed_today(name: str) -> None:
    printed = (GOLDEN / "fleet" / f"{name}-{FLEET}.txt").read_text("utf-8").split()
    shown = words(HERE / f"fleet-{name}.svg")

    assert len(printed) > 50
    assert shown[shown.index("$") :][: len(FLEETS[name].split()) + 1] == [
        "$",
        *FLEETS[name].split(),
    ]
    assert [word for word in printed if word not in shown] == [], "make pictures ONLY=fleet"


def test_all_pictures_are_small() -> None:
    pictures = [path for path in HERE.iterdir() if path.suffix in {".svg", ".png"}]

    assert len(pictures) >= 5
    assert sum(path.stat().st_size for path in pictures) < LIMIT
