"""What a publish makes of the server's replies."""

from __future__ import annotations

from typing import Any

import pytest
from hiredis import ReplyError

from fastq.brokers.redis.broker import _send
from fastq.brokers.redis.connection import ServerRefused
from fastq.exceptions import OperationalError


class FakeConnection:
    """Notes what is sent, and gives the replies that it was made with."""

    def __init__(self, *replies: Any) -> None:
        self.sent: list[bytes] = []
        self.replies = list(replies)

    def send(self, data: bytes, timeout: float) -> None:
        self.sent.append(data)

    def read(self, timeout: float) -> Any:
        return self.replies.pop(0)


def writes(*data: bytes) -> list[tuple[bytes, int, int]]:
    return [(each, 1, 1) for each in data]


@pytest.mark.parametrize(
    "error", ["LOADING Redis is loading", "READONLY You can't write", "OOM command not allowed"]
)
def test_what_a_starting_or_full_server_did_not_take_is_sent_again(error: str) -> None:
    left = writes(b"one", b"two", b"three")
    with pytest.raises(OperationalError, match="not ready"):
        _send(FakeConnection(1, ReplyError(error)), left, 1.0)  # type: ignore[arg-type]
    again = FakeConnection(1, 1)
    _send(again, left, 1.0)  # type: ignore[arg-type]
    assert again.sent == [b"two", b"three"] and not left


def test_what_a_server_refuses_is_not_sent_again() -> None:
    left = writes(b"one", b"two")
    connection = FakeConnection(ReplyError("WRONGTYPE Operation against a key"), 1)
    with pytest.raises(ServerRefused, match="WRONGTYPE"):
        _send(connection, left, 1.0)  # type: ignore[arg-type]
    assert not left and not connection.replies
