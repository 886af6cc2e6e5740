"""The state of a fleet, made of its events, in bounded memory.

Every event updates what is known of a worker or a task (`fastq.events.records`). Events may come in
any order. When there are too many workers or tasks, those that nothing was heard of for longest go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakSet

from fastq.events import records
from fastq.events.records import Task, Worker, heartbeat_expires

__all__ = ["State", "Task", "Worker", "heartbeat_expires"]

T = TypeVar("T")


class Index(defaultdict[str, "WeakSet[records.Task]"]):
    """Tasks by a name. ``index[name]`` is a set; ``index(name, limit, reverse)`` gives them in order."""

    def __init__(self, ordered: Callable[..., Iterator[tuple[str, records.Task]]]) -> None:
        super().__init__(WeakSet)
        self._ordered = ordered

    def __call__(
        self, name: str, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, records.Task]]:
        """The (id, task) of those under *name*, newest first unless not *reverse*."""
        return self._ordered(self.get(name, ()), limit, reverse)

    def move(self, task: records.Task, old: str | None, new: str | None) -> None:
        """List *task* under *new* in place of *old*, either of which may be None."""
        if old == new:
            return
        if old is not None and old in self:
            self[old].discard(task)
            if not self[old]:
                del self[old]
        if new is not None:
            self[new].add(task)


class State:
    """What is known of the workers and tasks of a fleet. `event` may be called from any thread.

    *callback* is called with the state and each event before it counts; *on_node_join* and
    *on_node_leave* with a worker that comes or goes. `handlers` maps groups of events to functions
    ``(subject, event)`` that are called in place of the state's own.
    """

    Worker = records.Worker
    Task = records.Task

    def __init__(
        self,
        callback: Callable[[State, dict[str, Any]], Any] | None = None,
        workers: Mapping[str, records.Worker] | None = None,
        tasks: Mapping[str, records.Task] | None = None,
        taskheap: Any = None,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10000,
        on_node_join: Callable[[records.Worker], Any] | None = None,
        on_node_leave: Callable[[records.Worker], Any] | None = None,
    ) -> None:
        """*taskheap* is accepted as in Celery, and has no effect: see `rebuild_taskheap`."""
        self.event_callback = callback
        self.workers: OrderedDict[str, records.Worker] = OrderedDict(workers or {})
        self.tasks: OrderedDict[str, records.Task] = OrderedDict(tasks or {})
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        self.event_count = 0
        self.task_count = 0
        self.handlers: dict[str, Callable[[str, dict[str, Any]], Any]] = {}
        self._mutex = threading.RLock()  # guards all that an event changes
        self._make_indexes()

    def _make_indexes(self) -> None:
        self.tasks_by_type = Index(self._in_order)
        self.tasks_by_worker = Index(self._in_order)
        self._children = Index(self._in_order)  # by the id of their parent
        for task in self.tasks.values():
            task.cluster_state = self
            self._list(task, None, None, None)

    # -- events -------------------------------------------------------------------------

    def event(self, event: dict[str, Any]) -> Any:
        """Take note of *event*; returns ``((worker or task, whether it is new), subject)``, or None."""
        with self._mutex:
            self.event_count += 1
            if self.event_callback is not None:
                self.event_callback(self, event)
            group, _, subject = event["type"].partition("-")
            handler = self.handlers.get(group)
            if handler is not None:
                return handler(subject, event), subject
            if group == "worker" and "hostname" in event:
                return self._worker_event(subject, event), subject
            if group == "task" and "uuid" in event:
                return self._task_event(subject, event), subject
            return None

    def _worker_event(self, subject: str, event: dict[str, Any]) -> tuple[records.Worker, bool]:
        hostname = event["hostname"]
        is_offline = subject == "offline"
        worker, created = self.get_or_create_worker(hostname)
        worker.event(subject, event.get("timestamp"), event.get("local_received"), event)
        if (created and not is_offline) or subject == "online":
            _tell(self.on_node_join, worker)
        if is_offline and self.on_node_leave is not None:
            self.on_node_leave(worker)
            self.workers.pop(hostname, None)
        return worker, created

    def _task_event(self, subject: str, event: dict[str, Any]) -> tuple[records.Task, bool]:
        timestamp, local_received = event.get("timestamp"), event.get("local_received")
        worker = None
        if subject != "sent" and event.get("hostname") is not None:
            worker = self.get_or_create_worker(event["hostname"])[0]
            worker.event(None, timestamp, local_received)
        task, created = self.get_or_create_task(event["uuid"])
        name, parent_id, old = task.name, task.parent_id, task.worker
        task.event(subject, timestamp, local_received, event, worker)
        if subject == "received":
            self.task_count += 1
        self._list(task, name, parent_id, None if old is None else old.hostname)
        return task, created

    def _list(
        self, task: records.Task, name: str | None, parent_id: str | None, hostname: str | None
    ) -> None:
        """List *task* where it belongs, and no more where it stood by these."""
        self.tasks_by_type.move(task, name, task.name)
        self._children.move(task, parent_id, task.parent_id)
        self.tasks_by_worker.move(task, hostname, None if task.worker is None else task.worker.hostname)

    def get_or_create_worker(self, hostname: str, **kwargs: Any) -> tuple[records.Worker, bool]:
        """The worker of this name, and whether it is new; *kwargs* are set as attributes."""
        worker = self.workers.get(hostname)
        created = worker is None
        if worker is None:
            worker = self.workers[hostname] = self.Worker(hostname)
            while len(self.workers) > self.max_workers_in_memory:
                self.workers.popitem(last=False)
        self.workers.move_to_end(hostname)
        worker.update(kwargs)
        return worker, created

    def get_or_create_task(self, uuid: str) -> tuple[records.Task, bool]:
        """The task of this id, and whether it is new."""
        task = self.tasks.get(uuid)
        created = task is None
        if task is None:
            task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
            while len(self.tasks) > self.max_tasks_in_memory:
                self._forget(self.tasks.popitem(last=False)[1])
        self.tasks.move_to_end(uuid)
        return task, created

    def _forget(self, task: records.Task) -> None:
        hostname = None if task.worker is None else task.worker.hostname
        self.tasks_by_type.move(task, task.name, None)
        self._children.move(task, task.parent_id, None)
        self.tasks_by_worker.move(task, hostname, None)

    # -- questions ----------------------------------------------------------------------

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, records.Task]]:
        """The (id, task) of all tasks, or of *limit* of them."""
        return islice(list(self.tasks.items()), limit or None)

    def tasks_by_time(
        self, limit: int | None = None, reverse: bool = True
    ) -> Iterator[tuple[str, records.Task]]:
        """The (id, task) of all tasks, or of *limit* of them, newest first unless not *reverse*."""
        return self._in_order(list(self.tasks.values()), limit, reverse)

    tasks_by_timestamp = tasks_by_time

    def _in_order(
        self, tasks: Iterable[records.Task], limit: int | None, reverse: bool
    ) -> Iterator[tuple[str, records.Task]]:
        def time_of(task: records.Task) -> tuple[float, int]:
            return task.timestamp or 0.0, task.clock or 0

        some = list(tasks)
        chosen = (nlargest if reverse else nsmallest)(limit or len(some), some, time_of)
        return ((task.uuid, task) for task in chosen)

    def children_of(self, uuid: str) -> set[records.Task]:
        """The known tasks that the task *uuid* has sent."""
        return set(self._children.get(uuid, ()))

    def task_types(self) -> list[str]:
        """The names of all known tasks, sorted."""
        return sorted(self.tasks_by_type)

    def alive_workers(self) -> Iterator[records.Worker]:
        """The workers that have lately given a sign of life."""
        return (worker for worker in list(self.workers.values()) if worker.alive)

    def rebuild_taskheap(self) -> None:
        """Do nothing: tasks are put in order when they are asked for, and no heap is kept."""

    # -- snapshots ----------------------------------------------------------------------

    def freeze_while(self, fun: Callable[..., T], *args: Any, clear_after: bool = False, **kwargs: Any) -> T:
        """Call *fun* while no event changes anything; with *clear_after*, `clear` then."""
        with self._mutex:
            try:
                return fun(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget the tasks that have ended; all of them if not *ready*."""
        with self._mutex:
            for uuid, task in list(self.tasks.items()):
                if not ready or task.ready:
                    del self.tasks[uuid]
                    self._forget(task)

    def clear(self, ready: bool = True) -> None:
        """Forget workers, counts, and tasks as `clear_tasks` does."""
        with self._mutex:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = 0
            self.task_count = 0

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, and the indexes, which are made anew."""
        left_out = ("_mutex", "tasks_by_type", "tasks_by_worker", "_children", "tasks")
        state = {name: value for name, value in self.__dict__.items() if name not in left_out}
        return state | {"tasks": [{**task.__dict__, "cluster_state": None} for task in self.tasks.values()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._mutex = threading.RLock()
        self.tasks = OrderedDict()
        for fields in state["tasks"]:
            task = self.tasks[fields["uuid"]] = self.Task(fields["uuid"])
            task.__dict__.update(fields)
        self._make_indexes()

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"


def _tell(callback: Callable[[records.Worker], Any] | None, worker: records.Worker) -> None:
    if callback is not None:
        callback(worker)
