"""Names of nodes, and the formats that log and pid files take from them (as Celery's)."""

from __future__ import annotations

import re
import socket

DEFAULT_NAME = "fastq"
CODE = re.compile(r"%([hndpiI%])")


def expand(text: str, *, host: str, name: str = DEFAULT_NAME) -> str:
    """Replace the codes of a format in *text*.

    ``%h`` is the host with its domain, ``%d`` the domain, ``%n`` the name before the ``@``,
    ``%p`` the whole node name, ``%i`` and ``%I`` the number of a pool's process, which is
    0 and "" here: children write to the log of their parent. ``%%`` is a percent sign.
    """
    values = {
        "h": host,
        "n": name,
        "d": host.partition(".")[2],
        "p": f"{name}@{host}",
        "i": "0",
        "I": "",
        "%": "%",
    }
    return CODE.sub(lambda match: values[match[1]], text)


def node_name(wanted: str | None) -> str:
    """The full name of the node called *wanted*: ``NAME@HOST``, each with its default.

    A name without ``@`` is the name before it, and *wanted* may hold the codes of `expand`.
    """
    host = socket.gethostname()
    if not wanted:
        return f"{DEFAULT_NAME}@{host}"
    name, _, on_host = wanted.partition("@")
    name, on_host = expand(name, host=host), expand(on_host, host=host)
    return f"{name or DEFAULT_NAME}@{on_host or host}"


def expand_path(path: str, node: str) -> str:
    """*path* with the codes of `expand` replaced by those of the node named *node*."""
    name, _, host = node.partition("@")
    return expand(path, host=host, name=name)
