"""The floor on RabbitMQ: `floor_amqp.c`, compiled against librabbitmq where that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from benches.processes import ROOT

SOURCE = ROOT / "benches" / "floor_amqp.c"
FLAGS = ("-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-Wall")
TIMEOUT = 180.0  # seconds


@cache
def program(folder: Path) -> Path:
    """Compile it into *folder*; its path. Raises `RuntimeError` that says what is missing."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RuntimeError("no C compiler is in PATH: there is no floor")
    if shutil.which("pkg-config") is None:
        raise RuntimeError("no pkg-config is in PATH to find librabbitmq: there is no floor")
    try:
        found = _run("pkg-config", "--cflags", "--libs", "librabbitmq")
        target = folder / "floor_amqp"
        _run(compiler, *FLAGS, str(SOURCE), "-o", str(target), *found.split())
    except subprocess.CalledProcessError as exc:
        raise RuntimeError(f"there is no floor: {exc.stderr.strip().splitlines()[-1]}") from exc
    return target


def publish(folder: Path, url: str, queue: str, count: int, delivery_mode: int, confirmed: int) -> float:
    """Messages per second that are published, and confirmed after every *confirmed* of them."""
    mode = "persistent" if delivery_mode == 2 else "transient"
    return _rate(folder, url, "publish", queue, count, mode, confirmed)


def consume(folder: Path, url: str, queue: str, count: int, prefetch: int) -> float:
    """Messages per second that come in and are acknowledged."""
    return _rate(folder, url, "consume", queue, count, prefetch)


def _rate(folder: Path, url: str, *arguments: str | int) -> float:
    try:
        return float(_run(str(program(folder)), url, *map(str, arguments)))
    except subprocess.CalledProcessError as exc:
        raise RuntimeError(exc.stderr.strip()) from exc


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout
