"""The pictures of docs/workflows.md are those that its script draws, and the page shows each."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "draw_workflows.py"))


def test_pictures_are_as_the_script_draws_them(tmp_path: Path) -> None:
    SCRIPT["main"](tmp_path)
    drawn = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert drawn == {file.name: file.read_text() for file in (DOCS / "workflows").iterdir()}


def test_page_shows_every_picture() -> None:
    page = (DOCS / "workflows.md").read_text()
    shown = re.findall(r"^!\[.+\]\(workflows/(.+)\.svg\)$", page, flags=re.MULTILINE)
    assert shown == list(SCRIPT["PICTURES"])


def test_nothing_in_a_picture_leaves_it() -> None:
    for name in SCRIPT["PICTURES"]:
        svg = ElementTree.fromstring(SCRIPT["draw"](name))
        width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
        for box in svg.iter("{http://www.w3.org/2000/svg}rect"):
            x, y = float(box.attrib["x"]), float(box.attrib["y"])
            assert x > 0 and x + float(box.attrib["width"]) < width, name
            assert y > 0 and y + float(box.attrib["height"]) < height, name
