"""What about a Redis server endangers the messages that it keeps, and what its clock says."""

from __future__ import annotations

from fastq.brokers.redis.connection import Connection

# Under these no key is dropped that never expires, as those of queues don't.
SAFE_POLICIES = ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
FULL = 0.9  # of maxmemory


def clock(connection: Connection, timeout: float) -> float:
    """The server's unix time."""
    seconds, micros = connection.call("TIME", timeout=timeout)
    return int(seconds) + int(micros) / 1e6


def dangers(connection: Connection, timeout: float) -> list[tuple[str, str]]:
    """What is wrong with the server, each with what to do about it."""
    text = connection.call("INFO", "all", timeout=timeout)
    info = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    found: list[tuple[str, str]] = []
    policy, most = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    if policy not in SAFE_POLICIES:
        found.append(
            (
                f"Redis drops keys when it is full, queues too (maxmemory-policy {policy})",
                "set maxmemory-policy to noeviction",
            )
        )
    if most and int(info.get("used_memory", 0)) > FULL * most:
        found.append(
            (
                f"Redis has used {int(info['used_memory']) / most:.0%} of its maxmemory",
                "give it more memory, or let results expire sooner (result_expires)",
            )
        )
    if info.get("aof_enabled") == "0" and not _saves(connection, timeout):
        found.append(
            (
                "Redis keeps nothing on disk: a restart loses every message and result",
                "set appendonly yes, or accept that",
            )
        )
    if info.get("rdb_last_bgsave_status") == "err" or info.get("aof_last_write_status") == "err":
        found.append(("Redis can't write to its disk", "look at the server's log, and free some space"))
    if info.get("role") == "slave":
        found.append(("this Redis is a replica and takes no writes", "name its primary, or use sentinel://"))
    return found


def _saves(connection: Connection, timeout: float) -> bool:
    """Whether the server makes snapshots; True where it does not tell."""
    answer = connection.call_many([["CONFIG", "GET", "save"]], timeout)[0]
    if not isinstance(answer, list | dict):
        return True
    values = list(answer.values()) if isinstance(answer, dict) else answer[1::2]
    return bool(values and values[0])
