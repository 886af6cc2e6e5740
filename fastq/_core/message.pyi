from enum import IntFlag
from typing import Any, final

class Action(IntFlag):
    ACK = 0
    REQUEUE = 1
    PARK = 2
    BURY = 3
    REDELIVER = 4
    RETURN = 5

def new_id() -> str: ...
def forget_entropy() -> None: ...

@final
class Message:
    task: str
    id: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    queue: str
    exchange: str
    routing_key: str
    priority: int | None
    due: float | None
    def __init__(
        self,
        task: str,
        id: str,
        headers: dict[str, Any],
        body: bytes,
        *,
        queue: str,
        properties: dict[str, Any] | None = None,
        content_type: str = "application/json",
        content_encoding: str = "utf-8",
        exchange: str = "",
        routing_key: str | None = None,
        priority: int | None = None,
        due: float | None = None,
    ) -> None: ...
    def header(self, name: str) -> Any: ...
    def envelope(self) -> bytes: ...
    def to_tuple(self) -> tuple[Any, ...]: ...

def message_from_tuple(fields: tuple[Any, ...]) -> Message: ...
def decode_envelope(raw: bytes) -> Message: ...
def upgrade_v1(message: Message, body: object) -> list[Any]: ...

JOIN_JOB: str
FOLLOW_JOB: str
JOBS: frozenset[str]
JOB_DONE: str
JOB_AGAIN: str

@final
class Delivery:
    message: Message | None
    tag: Any
    queue: str
    redelivered: int
    error: str | None
    raw: bytes | None
    def __init__(
        self,
        message: Message | None,
        tag: Any,
        queue: str,
        redelivered: int = 0,
        *,
        error: str | None = None,
        raw: bytes | None = None,
    ) -> None: ...

def decode_delivery(raw: bytes, tag: Any, queue: str, redelivered: int = 0) -> Delivery: ...

# Of `Effects`: (task id, state, document) and (group id, task id, index or None, member).
_Result = tuple[str, str, bytes]
_Part = tuple[str, str, int | None, bytes]

@final
class Effects:
    results: list[_Result]
    parts: list[_Part]
    chords: list[tuple[str, int]]
    extended: list[tuple[str, int, str]]
    groups: list[tuple[str, bytes]]
    joined: str | None
    def __init__(
        self,
        *,
        results: list[_Result] | None = None,
        parts: list[_Part] | None = None,
        chords: list[tuple[str, int]] | None = None,
        extended: list[tuple[str, int, str]] | None = None,
        groups: list[tuple[str, bytes]] | None = None,
        joined: str | None = None,
    ) -> None: ...
    def add(self, other: Effects) -> None: ...
    def to_tuple(self) -> tuple[Any, ...]: ...

def effects_from_tuple(fields: tuple[Any, ...]) -> Effects: ...
def part_name(task_id: str, index: int | None) -> str: ...

@final
class Outcome:
    delivery: Delivery
    action: int
    state: str | None
    result: bytes | None
    follow: list[Message] | None
    effects: Effects | None
    failure: dict[str, Any] | None
    until: float
    reason: str | None
    runtime: float
    shown: tuple[str, str | None] | None
    def __init__(
        self,
        delivery: Delivery,
        action: int = ...,
        *,
        state: str | None = None,
        result: bytes | None = None,
        follow: list[Message] | None = None,
        effects: Effects | None = None,
        failure: dict[str, Any] | None = None,
        until: float = 0,
        reason: str | None = None,
        runtime: float = 0,
        shown: tuple[str, str | None] | None = None,
    ) -> None: ...
    def to_tuple(self) -> tuple[Any, ...]: ...

def outcome_from_tuple(delivery: Delivery, fields: tuple[Any, ...]) -> Outcome: ...
