"""Draw the pictures of docs/workflows.md: ``python docs/draw_workflows.py [FOLDER]``.

A picture is a panel in which all goes well above one in which a part fails. Boxes are tasks, with what
comes of each below it. They bring their own ground, and everything outside of them is of a grey that
is legible on white and on black.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

FONT = "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
GREY = "#7d8590"
# What came of a task → the colour of its box. The words below the box say it too.
COLOURS = {"ran": "#1b7f5c", "failed": "#b42f3c", "never": "#5f6873", "errback": "#9a5b16"}
COLUMN, ROW = 156, 62  # from one box to the next, px
WIDTH, HEIGHT = 108, 26  # of a box, px
MARGIN, FRAME, TITLE = 16, 10, 22  # around a panel; between a frame and its boxes; over a panel, px

Cell = tuple[float, float]  # column, row


@dataclass(frozen=True)
class Box:
    """A task at *cell*, and what comes of it."""

    cell: Cell
    text: str
    note: str = ""
    fate: str = "ran"


@dataclass(frozen=True)
class Arrow:
    """From one box to another; *dashed* if it is an errback's or was never gone."""

    start: Cell
    end: Cell
    dashed: bool = False


@dataclass(frozen=True)
class Frame:
    """A dashed frame around the boxes from *first*, top left, to *last*, with its name above it."""

    first: Cell
    last: Cell
    name: str
    depth: int = 0  # how many frames it must leave room for inside


@dataclass(frozen=True)
class Panel:
    """One half of a picture."""

    title: str
    parts: tuple[Box | Arrow | Frame, ...]


def fan(start: Cell, ends: list[Cell], dashed: bool = False) -> tuple[Arrow, ...]:
    """Arrows from one box to several."""
    return tuple(Arrow(start, end, dashed) for end in ends)


def merge(starts: list[Cell], end: Cell, dashed: bool = False) -> tuple[Arrow, ...]:
    """Arrows from several boxes to one."""
    return tuple(Arrow(start, end, dashed) for start in starts)


COLUMN_OF_THREE = [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0)]


def adds(column: float, fails: bool = False) -> tuple[Box, ...]:
    """Three members of a group, of which the second may fail."""
    second = ("divide(1, 0)", "FAILURE", "failed") if fails else ("add(2, 2)", "4")
    return (
        Box((column, 0), "add(1, 1)", "2"),
        Box((column, 1), *second),
        Box((column, 2), "add(3, 3)", "6"),
    )


PICTURES = {
    "signature": (
        Panel("add.s(2, 2).delay()", (Box((0, 0), "add(2, 2)", "4"),)),
        Panel("divide.s(1, 0).delay()", (Box((0, 0), "divide(1, 0)", "FAILURE", "failed"),)),
    ),
    "chain": (
        Panel(
            "add.s(4, 4) | mul.s(8) | mul.s(10)",
            (
                Box((0, 0), "add(4, 4)", "8"),
                Box((1, 0), "mul(8, 8)", "64"),
                Box((2, 0), "mul(64, 10)", "640"),
                Arrow((0, 0), (1, 0)),
                Arrow((1, 0), (2, 0)),
            ),
        ),
        Panel(
            "add.s(4, 4) | divide.s(0) | mul.s(10)",
            (
                Box((0, 0), "add(4, 4)", "8"),
                Box((1, 0), "divide(8, 0)", "FAILURE", "failed"),
                Box((2, 0), "mul", "FAILURE, never ran", "never"),
                Arrow((0, 0), (1, 0)),
                Arrow((1, 0), (2, 0), dashed=True),
            ),
        ),
    ),
    "group": (
        Panel("all members end", (*adds(0), Frame((0, 0), (0, 2), "group"))),
        Panel("one fails, the others go on", (*adds(0, fails=True), Frame((0, 0), (0, 2), "group"))),
    ),
    "chord": (
        Panel(
            "the body gets the list of the header's results",
            (
                *adds(0),
                Frame((0, 0), (0, 2), "header"),
                Box((1, 1), "xsum([2, 4, 6])", "12"),
                *merge(COLUMN_OF_THREE, (1, 1)),
            ),
        ),
        Panel(
            "one of the header fails: the body never runs",
            (
                *adds(0, fails=True),
                Frame((0, 0), (0, 2), "header"),
                Box((1, 1), "xsum", "FAILURE: ChordError", "never"),
                Box((2, 1), "report", "errback of the body", "errback"),
                *merge(COLUMN_OF_THREE, (1, 1), dashed=True),
                Arrow((1, 1), (2, 1), dashed=True),
            ),
        ),
    ),
    "group-in-chain": (
        Panel(
            "task | group | task: the group is the header of a chord",
            (
                Box((0, 1), "add(1, 1)", "2"),
                Box((1, 0), "add(2, 1)", "3"),
                Box((1, 1), "add(2, 2)", "4"),
                Box((1, 2), "add(2, 3)", "5"),
                Frame((1, 0), (1, 2), "group"),
                Box((2, 1), "xsum([3, 4, 5])", "12"),
                *fan((0, 1), [(1, 0), (1, 1), (1, 2)]),
                *merge([(1, 0), (1, 1), (1, 2)], (2, 1)),
            ),
        ),
        Panel(
            "the step before the group fails",
            (
                Box((0, 1), "divide(1, 0)", "FAILURE", "failed"),
                Box((1, 0), "add", "never sent", "never"),
                Box((1, 1), "add", "never sent", "never"),
                Box((1, 2), "add", "never sent", "never"),
                Frame((1, 0), (1, 2), "group"),
                Box((2, 1), "xsum", "FAILURE, never ran", "never"),
                *fan((0, 1), [(1, 0), (1, 1), (1, 2)], dashed=True),
                *merge([(1, 0), (1, 1), (1, 2)], (2, 1), dashed=True),
            ),
        ),
    ),
    "chain-as-body": (
        Panel(
            "chord(header, xsum.s() | mul.s(10))",
            (
                *adds(0),
                Frame((0, 0), (0, 2), "header"),
                Box((1, 1), "xsum([2, 4, 6])", "12"),
                Box((2, 1), "mul(12, 10)", "120"),
                Frame((1, 1), (2, 1), "body"),
                *merge(COLUMN_OF_THREE, (1, 1)),
                Arrow((1, 1), (2, 1)),
            ),
        ),
        Panel(
            "one of the header fails",
            (
                *adds(0, fails=True),
                Frame((0, 0), (0, 2), "header"),
                Box((1, 1), "xsum", "FAILURE: ChordError", "never"),
                Box((2, 1), "mul", "FAILURE: ChordError", "never"),
                Frame((1, 1), (2, 1), "body"),
                *merge(COLUMN_OF_THREE, (1, 1), dashed=True),
                Arrow((1, 1), (2, 1), dashed=True),
            ),
        ),
    ),
    "nested-chords": (
        Panel(
            "a chord in the header of a chord",
            (
                Box((0, 0), "add(1, 1)", "2"),
                Box((0, 1), "add(2, 2)", "4"),
                Frame((0, 0), (0, 1), "inner header"),
                Box((1, 0.5), "xsum([2, 4])", "6"),
                Box((1, 2), "add(3, 3)", "6"),
                Frame((0, 0), (1, 2), "outer header", depth=2),
                Box((2, 1), "xsum([6, 6])", "12"),
                *merge([(0, 0), (0, 1)], (1, 0.5)),
                *merge([(1, 0.5), (1, 2)], (2, 1)),
            ),
        ),
        Panel(
            "one of the inner header fails",
            (
                Box((0, 0), "add(1, 1)", "2"),
                Box((0, 1), "divide(1, 0)", "FAILURE", "failed"),
                Frame((0, 0), (0, 1), "inner header"),
                Box((1, 0.5), "xsum", "FAILURE: ChordError", "never"),
                Box((1, 2), "add(3, 3)", "6"),
                Frame((0, 0), (1, 2), "outer header", depth=2),
                Box((2, 1), "xsum", "FAILURE: ChordError", "never"),
                *merge([(0, 0), (0, 1)], (1, 0.5), dashed=True),
                *merge([(1, 0.5), (1, 2)], (2, 1), dashed=True),
            ),
        ),
    ),
    "maps": (
        Panel(
            "starmap: one message; chunks of two: a group of starmaps",
            (
                Box((0, 0.5), "add.starmap", "[2, 4, 6, 8]"),
                Box((1, 0), "add.starmap", "[2, 4]"),
                Box((1, 1), "add.starmap", "[6, 8]"),
                Frame((1, 0), (1, 1), "add.chunks"),
            ),
        ),
        Panel(
            "one call fails, and with it its map or its chunk",
            (
                Box((0, 0.5), "divide.starmap", "FAILURE", "failed"),
                Box((1, 0), "divide.starmap", "FAILURE", "failed"),
                Box((1, 1), "divide.starmap", "[3.0, 4.0]"),
                Frame((1, 0), (1, 1), "divide.chunks"),
            ),
        ),
    ),
    "links": (
        Panel(
            "link: called with the result",
            (
                Box((0, 0), "add(2, 2)", "4"),
                Box((1, 0), "mul(4, 10)", "40"),
                Arrow((0, 0), (1, 0)),
            ),
        ),
        Panel(
            "link_error: called when the task has failed",
            (
                Box((0, 0.5), "divide(1, 0)", "FAILURE", "failed"),
                Box((1, 0), "mul", "never sent", "never"),
                Box((1, 1), "report", "(request, exc, traceback)", "errback"),
                Arrow((0, 0.5), (1, 0), dashed=True),
                Arrow((0, 0.5), (1, 1)),
            ),
        ),
    ),
    "replace": (
        Panel(
            "power replaces itself by a chain; what follows waits for that",
            (
                Box((0, 0), "power(2, 3)", "replaced"),
                Box((0, 1), "mul(2, 2)", "4"),
                Box((1, 1), "mul(4, 2)", "8, with power's id"),
                Box((2, 0), "add(8, 1)", "9"),
                Arrow((0, 0), (0, 1)),
                Arrow((0, 1), (1, 1)),
                Arrow((1, 1), (2, 0)),
            ),
        ),
        Panel(
            "a step of the replacement fails",
            (
                Box((0, 0), "power(2, 3)", "replaced"),
                Box((0, 1), "divide(2, 0)", "FAILURE", "failed"),
                Box((1, 1), "mul", "FAILURE, with power's id", "never"),
                Box((2, 0), "add", "FAILURE, never ran", "never"),
                Arrow((0, 0), (0, 1)),
                Arrow((0, 1), (1, 1), dashed=True),
                Arrow((1, 1), (2, 0), dashed=True),
            ),
        ),
    ),
}


class Canvas:
    """Collects one picture's lines of SVG, from the top down."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.width = 0.0
        self.height = 0.0

    def panel(self, panel: Panel) -> None:
        """Add *panel* below what is there."""
        boxes = [part for part in panel.parts if isinstance(part, Box)]
        frames = [part for part in panel.parts if isinstance(part, Frame)]
        above = max((FRAME + TITLE * (1 + frame.depth) / 1.4 for frame in frames), default=0.0)
        side = max((FRAME * (1 + frame.depth) for frame in frames), default=0.0)
        self.text(MARGIN, self.height + MARGIN + 8, panel.title, GREY, 13, anchor="start")
        self.left = MARGIN + side + 14
        self.top = self.height + MARGIN + TITLE + above
        columns = max(box.cell[0] for box in boxes)
        rows = max(box.cell[1] for box in boxes)
        self.width = max(self.width, self.left + columns * COLUMN + WIDTH + side + 14 + MARGIN)
        self.width = max(self.width, 2 * MARGIN + 7.0 * len(panel.title))
        self.height = self.top + rows * ROW + HEIGHT + 20 + side
        for part in sorted(panel.parts, key=lambda part: isinstance(part, Box)):
            match part:
                case Frame():
                    self.frame(part)
                case Arrow():
                    self.arrow(part)
                case Box():
                    self.box(part)

    def corner(self, cell: Cell) -> tuple[float, float]:
        """The top left corner of the box at *cell*."""
        return self.left + cell[0] * COLUMN, self.top + cell[1] * ROW

    def box(self, box: Box) -> None:
        """A task, and below it what comes of it."""
        x, y = self.corner(box.cell)
        fill = COLOURS[box.fate]
        self.lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{fill}"/>'
        )
        self.text(x + WIDTH / 2, y + HEIGHT / 2 + 4, box.text, "#ffffff", 12)
        self.text(x + WIDTH / 2, y + HEIGHT + 13, box.note, GREY, 11)

    def arrow(self, arrow: Arrow) -> None:
        """From the side of one box to that of another; from its foot to one that stands below."""
        (x, y), (end_x, end_y) = self.corner(arrow.start), self.corner(arrow.end)
        if arrow.start[0] == arrow.end[0]:
            path = f"M{x + 18:g} {y + HEIGHT:g} V{end_y - 2:g}"
        else:
            x, y, end_x, end_y = x + WIDTH, y + HEIGHT / 2, end_x - 2, end_y + HEIGHT / 2
            middle = (x + end_x) / 2
            path = f"M{x:g} {y:g} C{middle:g} {y:g} {middle:g} {end_y:g} {end_x:g} {end_y:g}"
        dashes = ' stroke-dasharray="4 4"' if arrow.dashed else ""
        self.lines.append(
            f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.5"{dashes} '
            'marker-end="url(#tip)"/>'
        )

    def frame(self, frame: Frame) -> None:
        """Around boxes and the notes below them."""
        (x, y), (end_x, end_y) = self.corner(frame.first), self.corner(frame.last)
        room = FRAME * (1 + frame.depth) + 4
        above = FRAME + TITLE * frame.depth / 1.6
        width = end_x + WIDTH - x + 2 * room
        height = end_y + HEIGHT + 20 - y + above + FRAME * frame.depth / 2
        self.lines.append(
            f'<rect x="{x - room:g}" y="{y - above:g}" width="{width:g}" height="{height:g}" rx="8" '
            f'fill="none" stroke="{GREY}" stroke-dasharray="2 3"/>'
        )
        self.text(x - room + 4, y - above - 4, frame.name, GREY, 11, anchor="start")

    def text(self, x: float, y: float, text: str, fill: str, size: int, anchor: str = "middle") -> None:
        """One line of text."""
        if text:
            self.lines.append(
                f'<text x="{x:g}" y="{y:g}" fill="{fill}" font-size="{size}" text-anchor="{anchor}">'
                f"{escape(text, quote=False)}</text>"
            )

    def svg(self, title: str) -> str:
        """The whole file."""
        width, height = self.width, self.height + MARGIN / 2
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" font-family="{FONT}" role="img">'
        )
        tip = (
            f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{GREY}"/></marker></defs>'
        )
        return "\n".join([head, f"<title>{escape(title)}</title>", tip, *self.lines, "</svg>", ""])


def draw(name: str) -> str:
    """The picture *name* as SVG."""
    canvas = Canvas()
    for panel in PICTURES[name]:
        canvas.panel(panel)
    return canvas.svg("; ".join(panel.title for panel in PICTURES[name]))


def main(folder: Path) -> None:
    """Draw every picture into *folder*."""
    folder.mkdir(exist_ok=True)
    for name in PICTURES:
        (folder / f"{name}.svg").write_text(draw(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "workflows")
