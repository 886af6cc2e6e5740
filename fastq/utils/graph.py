"""Graphs of what depends on what, and how Graphviz is told to draw them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, ItemsView, Iterable, Iterator
from typing import IO, Any

__all__ = ("CycleError", "DependencyGraph", "GraphFormatter")


class CycleError(Exception):
    """Things that depend on each other in a circle have no order."""


class DependencyGraph:
    """Objects and, of each, those that it depends on: an edge from A to B says that A does on B.

    *it* gives pairs ``(object, what it depends on)`` to begin with.
    """

    def __init__(
        self,
        it: Iterable[tuple[Any, Iterable[Any]]] | None = None,
        formatter: GraphFormatter | None = None,
    ) -> None:
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    def add_arc(self, obj: Hashable) -> None:
        """Add *obj*, unless it is here."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Hashable, B: Hashable) -> None:
        """Say that *A*, which is here, depends on *B*."""
        self[A].append(B)

    def connect(self, graph: DependencyGraph) -> None:
        """Take the objects and edges of *graph*, in place of those that the same objects have here."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Any, Iterable[Any]]]) -> None:
        """Add pairs ``(object, what it depends on)``."""
        pairs = [(obj, list(dependencies)) for obj, dependencies in it]
        for obj, _ in pairs:
            self.add_arc(obj)
        for obj, dependencies in pairs:
            for each in dependencies:
                self.add_edge(obj, each)

    def edges(self) -> Generator[Any, None, None]:
        """The objects that depend on others."""
        return (obj for obj, dependencies in self.items() if dependencies)

    def topsort(self) -> list[Any]:
        """The objects, each behind all that it depends on. Raises `CycleError` if there is no such order."""
        done: set[Any] = set()
        return [each for obj in self for each in self._upwards(obj, done)]

    def valency_of(self, obj: Any) -> int:
        """How many edges lead on from *obj*, from what it depends on, and so on, along every way to them.

        0 for what is not here. Raises `CycleError` where that has no end.
        """
        return self._valencies(obj)[obj]

    def _valencies(self, obj: Any) -> dict[Any, int]:
        """Those of *obj* and of all below it."""
        counts: dict[Any, int] = {}
        for each in self._upwards(obj, set()):
            dependencies = self.adjacent.get(each, ())
            counts[each] = len(dependencies) + sum(counts[other] for other in dependencies)
        return counts

    def _upwards(self, obj: Any, done: set[Any]) -> Iterator[Any]:
        """Yield *obj* after all that it depends on; each goes to *done*, and what is there has been."""
        if obj in done:
            return
        opened = {obj}
        path = [(obj, iter(self.adjacent.get(obj, ())))]
        while path:
            node, rest = path[-1]
            for each in rest:
                if each in opened:
                    raise CycleError(f"{each} depends on itself")
                if each not in done:
                    opened.add(each)
                    path.append((each, iter(self.adjacent.get(each, ()))))
                    break
            else:
                path.pop()
                opened.remove(node)
                done.add(node)
                yield node

    def to_dot(self, fh: IO[str], formatter: GraphFormatter | None = None) -> None:
        """Write the graph to the file *fh* as Graphviz's ``dot`` reads it."""
        draw = formatter or self.formatter
        drawn: set[Any] = set()

        def write_once(write: Callable[[Any], str], obj: Any) -> None:
            if draw.label(obj) not in drawn:
                drawn.add(draw.label(obj))
                print(write(obj), file=fh)

        print(draw.head(), file=fh)
        for obj, dependencies in self.items():
            if not dependencies:
                write_once(draw.terminal_node, obj)
            for each in dependencies:
                write_once(draw.node, obj)
                print(draw.edge(obj, each), file=fh)
        print(draw.tail(), file=fh)

    def format(self, obj: Any) -> Any:
        """*obj* as it is named in a drawing."""
        return self.formatter.label(obj)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    def items(self) -> ItemsView[Any, list[Any]]:
        """The objects, each with what it depends on."""
        return self.adjacent.items()

    iteritems = items

    def repr_node(self, obj: Any, level: int = 1, fmt: str = "{0}({1})") -> str:
        """*obj* and what it depends on as lines of text, indented the more the farther down they are."""
        counts = self._valencies(obj)
        lines: list[str] = []
        stack = [(obj, level - 1)]
        while stack:
            node, depth = stack.pop()
            # The first line has no place of its own: it stands where the caller puts it.
            lines.append(("     " * depth if lines else "") + fmt.format(node, counts[node]))
            stack += [(each, depth + 1) for each in reversed(self.adjacent.get(node, ()))]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return "\n".join(self.repr_node(node) for node in self)


class GraphFormatter:
    """How a graph is drawn. A subclass may have other schemes, which are attributes of Graphviz, or labels.

    *root* names what the graph begins with, *type* is ``digraph`` or ``graph``, *id* names the
    graph. All lines are indented by *indent* times *inw*. Further arguments go into `scheme`.
    """

    scheme = {"shape": "box", "style": "filled", "fontname": "Helvetica", "arrowhead": "vee"}
    graph_scheme = {"bgcolor": "white"}
    node_scheme = {"fillcolor": "lightsteelblue", "color": "steelblue4"}
    term_scheme = {"fillcolor": "aliceblue", "color": "steelblue3"}
    edge_scheme = {"color": "steelblue4", "arrowsize": 0.7}

    _arrows = {"graph": "--", "digraph": "->"}

    def __init__(
        self,
        root: Any = None,
        type: str | None = None,
        id: str | None = None,
        indent: int = 0,
        inw: str = "    ",
        **scheme: Any,
    ) -> None:
        self.id = id or "dependencies"
        self.root = root
        self.type = type or "digraph"
        self.direction = self._arrows[self.type]
        self.scheme = self.scheme | scheme
        self._outer = inw * indent
        self._inner = self._outer + inw

    def label(self, obj: Any) -> Any:
        """What stands for *obj*: two objects with one label are one node."""
        return obj

    def head(self, **attrs: Any) -> str:
        """How the graph begins."""
        own = self.scheme | self.graph_scheme | {"root": self.label(self.root)} | attrs
        return f"{self._outer}{self.type} {self.id} {{\n{self._inner}graph [{self.attrs(own)}]"

    def tail(self) -> str:
        """How the graph ends."""
        return f"{self._outer}}}"

    def node(self, obj: Any, **attrs: Any) -> str:
        """One that depends on others."""
        return self.draw_node(obj, self.node_scheme, attrs)

    def terminal_node(self, obj: Any, **attrs: Any) -> str:
        """One that depends on nothing."""
        return self.draw_node(obj, self.term_scheme, attrs)

    def edge(self, a: Any, b: Any, **attrs: Any) -> str:
        """The arrow from *a* to *b*, on which it depends."""
        return self.draw_edge(a, b, attrs=attrs)

    def draw_node(
        self, obj: Any, scheme: dict[str, Any] | None = None, attrs: dict[str, Any] | None = None
    ) -> str:
        """A node with the attributes of `scheme`, of *scheme* and *attrs*; the last ones win."""
        own = self.scheme | (scheme or {}) | (attrs or {})
        return f"{self._inner}{quoted(self.label(obj))} [{self.attrs(own)}]"

    def draw_edge(
        self, a: Any, b: Any, scheme: dict[str, Any] | None = None, attrs: dict[str, Any] | None = None
    ) -> str:
        """An arrow from *a* to *b* with the attributes of `edge_scheme`, of *scheme* and *attrs*."""
        own = self.scheme | self.edge_scheme | (scheme or {}) | (attrs or {})
        ends = f"{quoted(self.label(a))} {self.direction} {quoted(self.label(b))}"
        return f"{self._inner}{ends} [{self.attrs(own)}]"

    def attr(self, name: str, value: Any) -> str:
        """One attribute."""
        return f"{name}={quoted(value)}"

    def attrs(self, attrs: dict[str, Any]) -> str:
        """Attributes as they stand between brackets."""
        return ", ".join(self.attr(name, value) for name, value in attrs.items())


def quoted(value: Any) -> str:
    """*value* as a string of the dot language."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
