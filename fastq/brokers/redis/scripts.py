"""The Lua scripts: their text, and how to call one that the server may not know yet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from fastq._core.resp import Argument
from fastq.brokers.redis.connection import Connection, ServerRefused

# The helpers that stand in front of each script.
HELPERS = {
    "register.lua": ("envelope.lua",),
    "bind.lua": ("envelope.lua",),
    "broadcast.lua": (),
    "chain_block.lua": (),
    "recover.lua": ("envelope.lua",),
    "turn.lua": ("envelope.lua", "results.lua", "chords.lua"),
    "restore.lua": ("envelope.lua",),
    "save_chain.lua": (),
    "store.lua": ("results.lua",),
    "beat_look.lua": ("envelope.lua",),
    "beat_accept.lua": (),
    "beat_amend.lua": (),
    "workflow.lua": ("envelope.lua", "results.lua", "chords.lua"),
}


class Script(NamedTuple):
    """A script and the name under which the server keeps it."""

    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """The script of the file *name*, with its helpers in front."""
    folder = Path(__file__).parent
    text = b"".join((folder / part).read_bytes() for part in (*HELPERS[name], name))
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


def is_unknown(exc: ServerRefused) -> bool:
    """Whether the server has forgotten the script; nothing has happened then."""
    return "NOSCRIPT" in str(exc)


def run_script(
    connection: Connection, name: str, keys: Sequence[Argument], arguments: Sequence[Argument], timeout: float
) -> Any:
    """Call the script *name*, sending its text where the server lacks it."""
    found = script(name)
    try:
        return connection.call("EVALSHA", found.sha, len(keys), *keys, *arguments, timeout=timeout)
    except ServerRefused as exc:
        if not is_unknown(exc):
            raise
    return connection.call("EVAL", found.text, len(keys), *keys, *arguments, timeout=timeout)
