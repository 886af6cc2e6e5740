"""What is known of one worker and of one task, whatever the order in which their events arrive."""

from __future__ import annotations

import logging
import time
from bisect import insort
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastq import states

if TYPE_CHECKING:
    from fastq.events.state import State

logger = logging.getLogger("fastq.events")

# A worker is taken for alive this many percent of its heartbeat's period after its last sign of life.
HEARTBEAT_EXPIRE_WINDOW = 200
# Seconds between an event's time and its arrival above which clocks disagree.
HEARTBEAT_DRIFT_MAX = 16

# The state of a task after each of its events. Of two at the same time, the later one here came last.
TASK_EVENT_TO_STATE = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "retried": states.RETRY,
    "rejected": states.REJECTED,
    "revoked": states.REVOKED,
    "failed": states.FAILURE,
    "succeeded": states.SUCCESS,
}
_RANKS = {type_: rank for rank, type_ in enumerate(TASK_EVENT_TO_STATE)}

# What orders the events of a task: one that a client sends comes first, since its clock is another's; then
# the time, the rank and the logical clock.
_Order = tuple[bool, float, int, int]


def heartbeat_expires(
    timestamp: float, freq: float = 60, expire_window: float = HEARTBEAT_EXPIRE_WINDOW
) -> float:
    """When a worker that beats every *freq* seconds, and did at *timestamp*, is no longer taken for alive."""
    return float(timestamp) + float(freq) * expire_window / 100


class Worker:
    """What is known of one worker. Fields of its events that are not listed here are attributes too."""

    heartbeat_max = 4  # signs of life that are kept
    expire_window = HEARTBEAT_EXPIRE_WINDOW

    _fields = (
        "hostname",
        "pid",
        "freq",
        "heartbeats",
        "clock",
        "active",
        "processed",
        "loadavg",
        "sw_ident",
        "sw_ver",
        "sw_sys",
    )
    # Attributes that no event may set.
    _own = frozenset({"heartbeats", "event", "update", "alive", "id", "status_string", "heartbeat_expires"})

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.pid = pid
        self.freq = freq  # seconds between heartbeats
        self.heartbeats = [] if heartbeats is None else heartbeats  # when they arrived, unix seconds
        self.clock = clock
        self.active = active
        self.processed = processed
        self.loadavg = loadavg
        self.sw_ident = sw_ident
        self.sw_ver = sw_ver
        self.sw_sys = sw_sys
        self._told_at = 0.0  # the time of the newest event about it, by its own clock
        self._left_at = 0.0  # that of its last worker-offline
        self._has_warned = False

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Take note of an event of this worker; one of its tasks (*type_* None) is a sign of life."""
        at = timestamp or 0.0
        if at >= self._told_at and type_ is not None:
            self._told_at = at
            self.update(fields or {})
        if type_ == "offline":
            self._left_at = max(self._left_at, at)
            if at >= self._told_at:
                self.heartbeats.clear()
        elif local_received and timestamp and timestamp > self._left_at:
            self._check_drift(local_received, timestamp)
            insort(self.heartbeats, local_received)
            del self.heartbeats[: -self.heartbeat_max]

    def update(self, f: Mapping[str, Any], **kw: Any) -> None:
        """Set attributes."""
        for name, value in {**f, **kw}.items():
            if name not in self._own and not name.startswith("_"):
                setattr(self, name, value)

    def _check_drift(self, local_received: float, timestamp: float) -> None:
        drift = abs(local_received - timestamp)
        if drift > HEARTBEAT_DRIFT_MAX and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "An event of %s is %.0f s away from the time here: the clocks may disagree",
                self.hostname,
                drift,
            )

    @property
    def heartbeat_expires(self) -> float:
        """When it is no longer taken for alive, in unix seconds."""
        return heartbeat_expires(self.heartbeats[-1], self.freq, self.expire_window)

    @property
    def alive(self) -> bool:
        """Whether it has lately given a sign of life."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Its name and process."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})>"


class Task:
    """What is known of one task. Fields of its events that are not listed here are attributes too.

    Each field is that of the newest event that has it, and `state` that of the newest event, so
    the order in which events arrive does not matter. The attribute of an event's name is its time, in unix
    seconds.
    """

    name: str | None = None
    state: str = states.PENDING
    received: float | None = None
    sent: float | None = None
    started: float | None = None
    rejected: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retried: float | None = None
    revoked: float | None = None
    args: str | None = None
    kwargs: str | None = None
    eta: str | None = None
    expires: str | None = None
    retries: int | None = None
    worker: Worker | None = None
    result: str | None = None
    exception: str | None = None
    timestamp: float | None = None
    runtime: float | None = None  # seconds
    traceback: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    client: str | None = None  # who sent it
    root_id: str | None = None
    parent_id: str | None = None
    clock: int = 0

    _fields = (
        "uuid",
        "name",
        "state",
        "received",
        "sent",
        "started",
        "rejected",
        "succeeded",
        "failed",
        "retried",
        "revoked",
        "args",
        "kwargs",
        "eta",
        "expires",
        "retries",
        "worker",
        "result",
        "exception",
        "timestamp",
        "runtime",
        "traceback",
        "exchange",
        "routing_key",
        "clock",
        "client",
        "root",
        "root_id",
        "parent",
        "parent_id",
        "children",
    )
    _info_fields = (
        "args",
        "kwargs",
        "retries",
        "result",
        "eta",
        "runtime",
        "expires",
        "exception",
        "exchange",
        "routing_key",
        "root_id",
        "parent_id",
    )
    # Attributes that no event may set by a field of that name.
    _own: ClassVar[frozenset[str]] = frozenset(
        {"uuid", "state", "timestamp", "worker", "client", "cluster_state", "children", "parent", "root"}
        | {"id", "origin", "ready", "info", "event", "as_dict"}
        | set(TASK_EVENT_TO_STATE)
    )

    def __init__(self, uuid: str, cluster_state: State | None = None, **fields: Any) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        self.__dict__.update(fields)
        self._newest: dict[str, _Order] = {}  # by type: its newest event
        self._set_by: dict[str, _Order] = {}  # by field: the event that it is from

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: Mapping[str, Any] | None = None,
        worker: Worker | None = None,
    ) -> None:
        """Take note of an event of this task, with *fields*, that *worker* or else a client has sent."""
        fields = fields or {}
        at, clock = float(timestamp or 0.0), fields.get("clock")
        rank = _RANKS.get(type_, len(_RANKS))
        order = (type_ != "sent", at, rank, clock if isinstance(clock, int) else 0)
        if order >= self._newest.get(type_, order):
            self._newest[type_] = order
            if type_ in _RANKS:
                setattr(self, type_, timestamp)
        for name, value in fields.items():
            if name not in self._own and not name.startswith("_"):
                self._take(name, value, order)
        if type_ == "sent":
            self._take("client", fields.get("hostname"), order)
        elif worker is not None:
            self._take("worker", worker, order)
        newest = max(self._candidates(), key=self._newest.__getitem__)
        self.state = TASK_EVENT_TO_STATE.get(newest, newest.upper())
        self.timestamp = max(self._newest.values())[1]

    def _take(self, name: str, value: Any, order: _Order) -> None:
        """Set an attribute, unless it is from a newer event."""
        if order >= self._set_by.get(name, order):
            self._set_by[name] = order
            setattr(self, name, value)

    def _candidates(self) -> Iterable[str]:
        """The types of events of which the newest tells the state."""
        if "rejected" not in self._newest or "failed" not in self._newest:
            return self._newest
        # Of a message that is rejected because its task failed, the failure is what matters.
        began = max(
            (self._newest[each] for each in ("received", "started") if each in self._newest), default=None
        )
        if began is not None and began > self._newest["failed"]:
            return self._newest
        return [each for each in self._newest if each != "rejected"]

    def info(self, fields: Iterable[str] | None = None, extra: Iterable[str] = ()) -> dict[str, Any]:
        """Those of *fields* (None: what people want to see) and *extra* that are known."""
        names = [*(self._info_fields if fields is None else fields), *(extra or ())]
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """All its fields; other tasks by their ids."""
        known = {
            name: getattr(self, name) for name in self._fields if name not in ("root", "parent", "children")
        }
        children = sorted(child.uuid for child in self.children)
        known |= {"root": self.root_id, "parent": self.parent_id, "children": children}
        return {name: known[name] for name in self._fields}

    @property
    def id(self) -> str:
        """Its id."""
        return self.uuid

    @property
    def origin(self) -> str | None:
        """The worker that has it, or who sent it."""
        return self.client if self.worker is None else self.worker.id

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    @property
    def parent(self) -> Task | None:
        """The task that sent it, if that is known."""
        return self._find(self.parent_id)

    @property
    def root(self) -> Task | None:
        """The first task of its workflow, if that is known."""
        return self._find(self.root_id)

    @property
    def children(self) -> set[Task]:
        """The known tasks that it sent."""
        return set() if self.cluster_state is None else self.cluster_state.children_of(self.uuid)

    def _find(self, uuid: str | None) -> Task | None:
        if uuid is None or self.cluster_state is None:
            return None
        return self.cluster_state.tasks.get(uuid)

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"
