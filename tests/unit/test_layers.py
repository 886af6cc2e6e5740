"""Imports point downwards only (STYLE.md §2), and in no circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "fastq"

# The layer of each module or package of fastq; the longest prefix counts. A module may import
# its own layer and every lower one. `fastq` itself re-exports the public names: nothing may
# import it from inside.
LAYERS = {
    "app_source": 0,
    "clock": 0,
    "exceptions": 0,
    "signals": 0,
    "states": 0,
    "version": 0,
    "_core": 1,
    # The two that decode bodies, by whichever serializer; nothing else in _core may import them.
    "_core.consume": 2,
    "_core.trace": 2,
    "serialization": 2,
    "schedules": 2,
    "state_dir": 2,
    "topology": 2,
    "utils": 2,
    "wakeup": 2,
    "backends": 3,
    "brokers": 3,
    "app": 4,
    "canvas": 4,
    "result": 4,
    "beat": 5,
    "bootsteps": 5,
    "events": 5,
    "worker": 5,
    "cli": 6,
    "contrib": 6,
    "__main__": 6,
    "": 7,
}

# Cython has no parser to lend: its import statements are one line each here.
CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<source>[\w.]+)\s+c?import|c?import\s+(?P<plain>[\w.]+))\s*(?P<names>.*)"
)


class Import(NamedTuple):
    """One import of a fastq module by another."""

    importer: str  # dotted, without the leading "fastq."
    imported: str
    line: int


def module_name(path: Path) -> str:
    """The dotted name of *path* below fastq, "" for the package itself."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


SOURCES = {
    module_name(path): path
    for pattern in ("*.py", "*.pyx", "*.pxd")
    for path in sorted(PACKAGE.rglob(pattern))
}


def layer(module: str) -> int | None:
    """The layer of *module*, None if the table does not know it."""
    while module not in LAYERS and "." in module:
        module = module.rpartition(".")[0]
    return LAYERS.get(module)


def defining_module(source: str, name: str) -> str | None:
    """What ``from source import name`` loads, below fastq; None for other packages."""
    if source != "fastq" and not source.startswith("fastq."):
        return None
    below = source.removeprefix("fastq").removeprefix(".")
    submodule = f"{below}.{name}" if below else name
    return submodule if submodule in SOURCES else below


def is_type_checking(node: ast.AST) -> bool:
    """Whether *node* is an ``if TYPE_CHECKING:``, whose body never runs."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def python_imports(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Yield (imported fastq module, line), those inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (found := defining_module(alias.name, "")) is not None:
                    yield found, node.lineno
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*base, source] if source else base)
            for alias in node.names:
                if (found := defining_module(source, alias.name)) is not None:
                    yield found, node.lineno
        else:
            yield from python_imports(node, package)


def cython_imports(text: str) -> Iterator[tuple[str, int]]:
    """Yield (imported fastq module, line) of ``import`` and ``cimport`` statements."""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := CYTHON_IMPORT.match(line):
            source = match["source"] or match["plain"]
            for name in (match["names"] or "").strip("() ").split(","):
                if (found := defining_module(source, name.strip().split(" ")[0])) is not None:
                    yield found, number


def all_imports() -> list[Import]:
    """Every import between modules of fastq."""
    found = []
    for pattern in ("*.py", "*.pyx", "*.pxd"):
        for path in sorted(PACKAGE.rglob(pattern)):
            importer = module_name(path)
            if path.suffix == ".py":
                package = ".".join(["fastq", *path.relative_to(PACKAGE).parent.parts])
                edges = python_imports(ast.parse(path.read_text()), package)
            else:
                edges = cython_imports(path.read_text())
            found += [Import(importer, imported, line) for imported, line in edges if imported != importer]
    return found


IMPORTS = all_imports()


def test_every_module_has_a_layer() -> None:
    assert [module for module in SOURCES if layer(module) is None] == []


def test_imports_point_downwards() -> None:
    upward = [
        f"fastq.{edge.importer}:{edge.line} (layer {layer(edge.importer)}) imports "
        f"fastq.{edge.imported} (layer {layer(edge.imported)})"
        for edge in IMPORTS
        if (layer(edge.importer) or 0) < (layer(edge.imported) or 0)
    ]
    assert upward == []


def test_nothing_imports_the_public_package_from_inside() -> None:
    assert [f"fastq.{edge.importer}:{edge.line}" for edge in IMPORTS if edge.imported == ""] == []


def test_imports_make_no_circle_lazy_ones_counted() -> None:
    lower: dict[str, set[str]] = {}
    for edge in IMPORTS:
        lower.setdefault(edge.importer, set()).add(edge.imported)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            pytest.fail("an import circle: " + " -> ".join((*path[path.index(module) :], module)))
        if module in done:
            return
        for imported in sorted(lower.get(module, ())):
            visit(imported, (*path, module))
        done.add(module)

    for module in sorted(lower):
        visit(module, ())


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("from fastq.brokers.base import Broker", "brokers.base"),
        ("from fastq.brokers import base", "brokers.base"),
        ("def f():\n    from fastq.brokers import base", "brokers.base"),
        ("import fastq.brokers.base", "brokers.base"),
        ("from .base import Broker", "brokers.base"),
    ],
)
def test_every_form_of_import_is_seen(statement: str, imported: str) -> None:
    assert [found for found, _ in python_imports(ast.parse(statement), "fastq.brokers")] == [imported]


def test_imports_for_types_alone_do_not_count() -> None:
    text = "if TYPE_CHECKING:\n    from fastq.worker.pools.base import Pool"
    assert list(python_imports(ast.parse(text), "fastq.brokers")) == []
