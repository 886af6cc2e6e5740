"""Celery's file of a schedule: a shelf whose pickles name Celery's classes, read and written as such.

So Celery's beat goes on with what ours has written, and the other way round. Like every pickle
it runs code of whoever wrote it: keep it where nobody else can write.
"""

from __future__ import annotations

import pickle
import pickletools
import shelve
from collections.abc import Iterator
from io import BytesIO
from typing import Any

# Up to here pickles name classes in lines of text, which need no lengths to be mended.
PROTOCOL = 3
# Where Celery keeps what we have somewhere below these.
MODULES = {"fastq.schedules": "celery.schedules", "fastq.beat": "celery.beat"}
# What we have in place of Celery's, by its module and name.
CLASSES = {("celery.utils.time", "LocalTimezone"): ("fastq.app.zones", "LocalZone")}


class Unpickler(pickle.Unpickler):
    """Reads pickles of Celery's and of our own."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of ours in place of Celery's."""
        for ours, theirs in MODULES.items():
            if module == theirs:
                module = ours
        module, name = CLASSES.get((module, name), (module, name))
        return super().find_class(module, name)


def dumps(value: Any) -> bytes:
    """*value* as Celery pickles it."""
    data = pickle.dumps(value, PROTOCOL)
    parts, at = [], 0
    for start, end, module, name in _globals(data):
        theirs = next((celery for ours, celery in MODULES.items() if _is_in(module, ours)), None)
        if theirs is not None:
            parts += [data[at:start], f"c{theirs}\n{name}\n".encode()]
            at = end
    return b"".join([*parts, data[at:]])


def loads(data: bytes) -> Any:
    """What `dumps`, or Celery, has pickled."""
    return Unpickler(BytesIO(data)).load()


def _globals(data: bytes) -> Iterator[tuple[int, int, str, str]]:
    """Where *data* names a class: from, to, the module and the name."""
    for opcode, argument, start in pickletools.genops(data):
        if opcode.name == "GLOBAL" and start is not None and argument is not None:
            module, _, name = argument.partition(" ")
            yield start, start + 1 + len(argument.encode()) + 1, module, name


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


class CeleryShelf(shelve.DbfilenameShelf[Any]):
    """A shelf whose values are written by `dumps`."""

    dict: Any
    cache: Any
    writeback: bool

    def __getitem__(self, key: str) -> Any:
        if key not in self.cache:
            value = loads(self.dict[key.encode()])
            if not self.writeback:
                return value
            self.cache[key] = value
        return self.cache[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if self.writeback:
            self.cache[key] = value
        self.dict[key.encode()] = dumps(value)

    def sync(self) -> None:
        """Write what was read and may have changed. It stays as it is: the same objects."""
        for key, value in self.cache.items():
            self.dict[key.encode()] = dumps(value)
        if hasattr(self.dict, "sync"):
            self.dict.sync()

    def close(self) -> None:
        """Write and close the file."""
        super().close()
        self.cache.clear()


def open(filename: str, writeback: bool = False) -> CeleryShelf:
    """Open the file *filename*, or make it; the database may add a suffix."""
    return CeleryShelf(filename, "c", PROTOCOL, writeback)
