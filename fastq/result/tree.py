"""What a task has sent, what those tasks have sent, and so on: a tree of results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastq.exceptions import IncompleteStream
from fastq.result.base import leaves
from fastq.result.waiting import look

if TYPE_CHECKING:
    from fastq.utils.graph import DependencyGraph, GraphFormatter


def iterdeps(root: Any, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
    """Yield (parent, result) for *root* and all below it, level by level; the parent of *root* is None.

    Raises `IncompleteStream` after a result that has not ended, unless *intermediate* is true.
    """
    queue: deque[tuple[Any, Any]] = deque([(None, root)])
    while queue:
        parent, node = queue.popleft()
        yield parent, node
        if node.ready():
            children = node.children or []
            look(leaf for child in children for leaf in leaves(child))
            queue.extend((node, child) for child in children)
        elif not intermediate:
            raise IncompleteStream(f"{node.id} has not ended: wait for it, or ask with intermediate=True")


def build_graph(
    root: Any, intermediate: bool = False, formatter: GraphFormatter | None = None
) -> DependencyGraph:
    """The results from *root* down, each with an edge to what its task has sent."""
    from fastq.utils.graph import DependencyGraph, GraphFormatter  # no client that only waits needs it

    graph = DependencyGraph(formatter=formatter or GraphFormatter(root=root.id, shape="oval"))
    for parent, node in iterdeps(root, intermediate):
        graph.add_arc(node)
        if parent is not None:
            graph.add_edge(parent, node)
    return graph
