"""Graphs: their order, their text, their drawing. Celery's is the oracle for what both have."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from celery.utils import graph as theirs

from fastq.utils import graph as ours
from fastq.utils.graph import CycleError, DependencyGraph, GraphFormatter

GRAPHS: list[list[tuple[str, list[str]]]] = [
    [],
    [("a", [])],
    [("a", ["b"]), ("b", [])],
    [("a", ["b", "c"]), ("b", ["d"]), ("c", ["d"]), ("d", [])],
    [("d", []), ("c", ["d"]), ("b", ["d"]), ("a", ["b", "c"])],
    [("a", ["b", "b"]), ("b", ["c"]), ("c", []), ("x", ["y"]), ("y", [])],
]


def lines(graph: Any) -> list[str]:
    """Its drawing without the looks."""
    out = io.StringIO()
    graph.to_dot(out)
    return [re.sub(r" \[.*\]", "", line) for line in out.getvalue().split("\n")]


@pytest.mark.parametrize("pairs", GRAPHS)
def test_a_graph_says_what_celerys_says(pairs: list[tuple[str, list[str]]]) -> None:
    def look(module: Any) -> Any:
        graph = module.DependencyGraph(iter(pairs))
        graph.add_arc("a")
        return (
            dict(graph.items()),
            list(graph),
            len(graph),
            "a" in graph,
            "z" in graph,
            [graph.valency_of(each) for each in [*graph, "z"]],
            list(graph.edges()),
            repr(graph),
            lines(graph),
        )

    assert look(ours) == look(theirs)


@pytest.mark.parametrize("pairs", GRAPHS)
def test_each_stands_behind_what_it_depends_on(pairs: list[tuple[str, list[str]]]) -> None:
    graph = DependencyGraph(pairs)
    order = graph.topsort()
    assert sorted(order) == sorted(graph)
    for obj, dependencies in pairs:
        assert all(order.index(each) < order.index(obj) for each in dependencies)


def test_a_circle_has_no_order() -> None:
    graph = DependencyGraph([("a", ["b"]), ("b", ["c"]), ("c", ["b"])])
    for look in (graph.topsort, lambda: graph.valency_of("a"), lambda: repr(graph)):
        with pytest.raises(CycleError, match="b depends on itself"):
            look()


def test_a_line_of_ten_thousand_is_ordered() -> None:
    graph = DependencyGraph((number, [number + 1]) for number in range(10_000))
    assert graph.topsort() == list(range(10_000, -1, -1))
    assert graph.valency_of(0) == 10_000


def test_graphs_are_connected() -> None:
    graph = DependencyGraph([("a", ["b"])])
    graph.connect(DependencyGraph([("b", ["c"]), ("c", [])]))
    assert dict(graph.items()) == {"a": ["b"], "b": ["c"], "c": []}


def test_labels_are_quoted_and_may_join_nodes() -> None:
    class Initials(GraphFormatter):
        def label(self, obj: Any) -> Any:
            return obj and f'"{obj[0]}"\\'

    graph = DependencyGraph([("ab", ["ba"]), ("ac", []), ("ba", [])], formatter=Initials(root="ab"))
    a, b = r'"\"a\"\\"', r'"\"b\"\\"'
    assert [line.strip() for line in lines(graph)[2:]] == [a, f"{a} -> {b}", b, "}", ""]
    assert graph.format("xy") == '"x"\\'


def test_a_formatter_takes_its_looks() -> None:
    formatter = GraphFormatter(root="r", type="graph", id="proj", indent=1, shape="oval")
    assert formatter.head(label="all").startswith("    graph proj {\n        graph [")
    assert 'root="r", label="all"' in formatter.head(label="all")
    assert 'shape="oval"' in formatter.node("a")
    assert 'shape="box"' in formatter.terminal_node("a", shape="box")
    assert formatter.edge("a", "b", color="red").startswith('        "a" -- "b" [')
    assert 'color="red"' in formatter.edge("a", "b", color="red")
    assert formatter.tail() == "    }"
