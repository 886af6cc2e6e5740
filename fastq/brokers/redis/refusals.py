"""What an error reply of a Redis server means: whether it passes, and what to do about it."""

from __future__ import annotations

import re

# The code of an error is its first word; where a script of Redis 6 ran into it, it stands behind the script.
_CODE = re.compile(r"^(?:ERR .*@user_script: ?\d+: )?-?([A-Z]+)\b")
# Where in a script of ours a command failed.
_PLACE_IN_SCRIPT = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")

# Errors of a server that starts, fails over, is full or waits for its disk: another attempt may find it well.
_PASSING = {
    "LOADING": "it reads its data from disk",
    "BUSY": "a script runs for long: look at SLOWLOG, and end it by SCRIPT KILL",
    "READONLY": "this server is a replica: let the URL name the master, or use sentinel://",
    "MASTERDOWN": "this server is a replica that has lost its master: let the URL name the master",
    "CLUSTERDOWN": "some of the cluster's slots have no server",
    "TRYAGAIN": "the cluster moves these keys",
    "OOM": "its memory is full: let workers empty the queues, raise maxmemory, or shorten result_expires",
    "MISCONF": "it could not save its data: look at its log and its disk",
    "NOREPLICAS": "too few replicas follow it: look at min-replicas-to-write",
}
_CLUSTER = "this is a Redis Cluster, over which keys are spread: use a server without cluster mode"
# Errors that only somebody's hand puts right.
_LASTING = {
    "WRONGPASS": "correct the user or the password in the URL, or let the server know them",
    "NOAUTH": "put the password into the URL, as in redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST",
    "NOPERM": "grant that to the user; docs/migrating.md lists what fastq needs",
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "WRONGTYPE": "a key of this name holds something else: use another queue, database or global_keyprefix",
}
_UNKNOWN_COMMAND = "the server, or a proxy before it, lacks this command: use Redis 6.2 or newer without it"


def code_of(error: str) -> str:
    """The code of an error reply, such as OOM."""
    found = _CODE.match(error)
    return found[1] if found else "ERR"


def asks_for_login(error: str) -> bool:
    """Whether the server does not know who sent the command."""
    # It takes no long command of a client that has not logged in, and hangs up.
    return code_of(error) == "NOAUTH" or "unauthenticated" in error


def is_passing(error: str) -> bool:
    """Whether the same command may succeed later."""
    return code_of(error) in _PASSING


def with_advice(error: str) -> str:
    """*error* and what to do about it, where that is known."""
    what = _PLACE_IN_SCRIPT.sub("", error).rstrip(". ")
    advice = _advice(error)
    return f"{what}: {advice}" if advice else what


def _advice(error: str) -> str | None:
    if asks_for_login(error):
        return _LASTING["NOAUTH"]
    if "The user executing the script can't" in error:
        return _LASTING["NOPERM"]
    if "unknown command" in error:
        return _UNKNOWN_COMMAND
    code = code_of(error)
    return _PASSING.get(code) or _LASTING.get(code)
