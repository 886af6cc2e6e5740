"""What a fault scenario plays on: a broker, `fastq worker` processes, a load, and the judge."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from judge import Event, Fault, Journal, JournalReader, Verdict, judge
from servers import RabbitServer

from fastq import FastQ
from fastq._core.message import new_id
from fastq.brokers.base import QueueInfo
from fastq.brokers.rabbitmq.addresses import DEAD_SET
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.delays import LADDERS
from fastq.brokers.rabbitmq.endpoint import parse_endpoint as parse_rabbitmq
from fastq.brokers.rabbitmq.notes import STREAM as REVOKED
from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.endpoint import parse_endpoint
from fastq.exceptions import OperationalError

HERE = Path(__file__).parent
PATIENCE = 20.0  # seconds; only failing tests wait for so long
LEASE = 2.0  # seconds

# How many tasks run at a time on each pool.
CONCURRENCY = {"solo": 1, "prefork": 2, "threads": 4, "gevent": 20, "asyncio": 20}
POOLS = tuple(CONCURRENCY)

QUEUE_COLUMNS = ("name", "messages_ready", "messages_unacknowledged", "exclusive")  # of rabbitmqctl


def forms(short: int, long: int, minutes: int = 20) -> list[Any]:
    """The two forms of a scenario that does something *short* or *long* times, for parametrize."""
    return [short, pytest.param(long, marks=[pytest.mark.long, pytest.mark.timeout(60 * minutes)])]


def flush(url: str) -> None:
    """Empty a Redis or RabbitMQ server of the tests' own."""
    if url.startswith("amqp"):
        rungs = [f"{ladder.name}_{number}" for ladder in LADDERS for number in range(ladder.rungs)]
        amqp = Connector(parse_rabbitmq(url, {})).connect(PATIENCE)
        deletes = [("queue.delete", {"queue": name}) for name in ("celery", DEAD_SET, *POOLS, *rungs)]
        amqp.call_many(amqp.open_channel(PATIENCE), deletes, PATIENCE)
        amqp.close()
        return
    connection = connect(parse_endpoint(url, {}), 5.0)
    connection.call("FLUSHALL", timeout=5.0)
    connection.close()


class WorkerProcess:
    """One `fastq worker`, whose log goes to a file."""

    def __init__(self, stage: Stage, name: str, *arguments: str, module: str = "fault_tasks") -> None:
        self.log = stage.folder / f"{name}.log"
        self._stage = stage
        options = ["-A", module, "-n", name, "-l", "WARNING"]
        options += ["-P", stage.pool, "-c", str(CONCURRENCY[stage.pool])]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fastq", "worker", *options, *arguments],
                cwd=stage.folder,
                env=stage.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid

    def wait_until_ready(self) -> WorkerProcess:
        """Return when it takes tasks."""
        self._stage.wait_for(
            lambda events: any((each.kind, each.pid) == ("ready", self.pid) for each in events),
            "a ready worker",
        )
        return self

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill it, and tell the judge so."""
        began = time.monotonic()
        self.process.kill()
        self.process.wait()
        self._stage.faults.append(Fault(began, time.monotonic()))

    def stop(self) -> int:
        """Stop it as a service manager does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Kill it if it still lives."""
        if self.is_alive():
            self.process.kill()
            self.process.wait()


class Stage:
    """One broker with one pool. *url* is how workers reach the broker, *sender_url* how the load does.

    RabbitMQ keeps no results, and only its *server* tells what workers hold.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        pool: str,
        *,
        sender_url: str = "",
        lease: float = LEASE,
        heartbeat: float = 0.0,
        server: RabbitServer | None = None,
    ) -> None:
        self.folder = folder
        self.url = url
        self.pool = pool
        self.faults: list[Fault] = []
        # A worker lost its connection: no reason to run a task twice, unless it was moving the message.
        self.breaks: list[Fault] = []
        self.journal = Journal(folder / "journal")
        self.reader = JournalReader(self.journal.path)
        reached = sender_url or url
        self._server = server
        results = f"sqlite:///{folder / 'results.sqlite3'}" if server else ""
        self.app = FastQ("fault", broker=reached, backend=results or reached, set_as_current=False)
        self.app.conf.task_publish_deadline = PATIENCE
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("FASTQ_", "CELERY_"))},
            "FAULT_BROKER": url,
            "FAULT_BACKEND": results or url,
            "FAULT_JOURNAL": str(self.journal.path),
            "FAULT_LEASE": str(lease),
            "FAULT_HEARTBEAT": str(heartbeat),
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._workers: list[WorkerProcess] = []
        self._lock = threading.Lock()  # guards the reader

    def start_worker(self, name: str = "", *arguments: str, module: str = "fault_tasks") -> WorkerProcess:
        """Start a worker; it may not be ready yet."""
        worker = WorkerProcess(self, name or f"w{len(self._workers)}", *arguments, module=module)
        self._workers.append(worker)
        return worker

    def events(self) -> list[Event]:
        """The journal so far."""
        with self._lock:
            self.reader.read()
            return self.reader.events

    def ids(self, kind: str) -> set[str]:
        """The ids of all events of one kind."""
        return {each.id for each in self.events() if each.kind == kind}

    def wait_for(self, claim: Callable[[list[Event]], bool], what: str) -> None:
        """Return when *claim* holds of the journal."""
        deadline = time.monotonic() + PATIENCE
        while not claim(self.events()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}\n{self.logs()}")
            time.sleep(0.01)

    def publish(self, calls: Collection[tuple[str, tuple[object, ...]]], **options: object) -> list[str]:
        """Send calls (task, args); returns their ids once the broker has confirmed them."""
        ids = [new_id() for _ in calls]
        self.journal.note("try", ids)
        while True:
            try:
                self.app.send_many(
                    (f"fault_tasks.{task}", args, {}, {"task_id": task_id, **options})
                    for task_id, (task, args) in zip(ids, calls, strict=True)
                )
                break
            except OperationalError:
                time.sleep(0.01)  # a fault that lasts longer than one publish may
        self.journal.note("sent", ids)
        return ids

    @contextmanager
    def load(self, most_waiting: int = 200) -> Iterator[Load]:
        """Tasks of 0 to 10 ms that are sent all the time, with about *most_waiting* of them ahead."""
        load = Load(self, most_waiting)
        load.start()
        try:
            yield load
        finally:
            load.is_over = True
            load.join(PATIENCE)
        assert not load.is_alive(), f"the load can't send\n{self.logs()}"
        if load.error is not None:
            raise load.error

    def verdict(self) -> Verdict:
        """Wait until everything that was sent is accounted for, or nothing moves, and judge."""
        moved_at, last = time.monotonic(), -1
        while time.monotonic() - moved_at < 2 * LEASE + 3:
            dead = {each.id for each in self.app.broker.dead(limit=100_000)}
            left = self.ids("sent") - self.ids("end") - dead
            if not left and self._held() == 0:
                break
            if len(self.events()) != last:
                moved_at, last = time.monotonic(), len(self.events())
            time.sleep(0.05)
        events = list(self.events())
        dead = {each.id for each in self.app.broker.dead(limit=100_000)}
        held = self._held()
        waiting = self._waiting() if held else set()
        doubling = [*self.faults, *self.breaks] if self._server else ()
        verdict = judge(events, dead=dead, waiting=waiting, faults=self.faults, doubling=doubling)
        assert not held, f"{held} tasks still lie in the broker\n{verdict}\n{self.logs()}"
        print(f"JUDGED {os.environ.get('PYTEST_CURRENT_TEST', '')}: {verdict}")
        return verdict

    def missing_results(self) -> set[str]:
        """Ids of tasks that ended and left no result; those that died all the same have none."""
        dead = {each.id for each in self.app.broker.dead(limit=100_000)}
        ended = sorted(self.ids("end") - dead)
        backend = self.app.backend
        assert backend is not None
        found = backend.fetch(ended)
        return {task_id for task_id, document in zip(ended, found, strict=True) if document is None}

    def queues(self) -> list[QueueInfo]:
        """What the broker holds."""
        if self._server is None:
            return self.app.broker.queues()
        told = self._server.control("list_queues", "--no-table-headers", *QUEUE_COLUMNS).splitlines()
        # What is exclusive is a worker's mailbox for remote control, of which nobody else may ask.
        counts = {
            name: (int(ready), int(held))
            for name, ready, held, is_exclusive in (line.split("\t") for line in told)
            if is_exclusive != "true"  # a quorum queue does not say
        }
        rungs = tuple(f"{ladder.name}_" for ladder in LADDERS)
        delayed = sum(ready for name, (ready, _) in counts.items() if name.startswith(rungs))
        names = [name for name in counts if name not in (DEAD_SET, REVOKED) and not name.startswith(rungs)]
        found = [
            info._replace(ready=counts[info.name][0], claimed=counts[info.name][1], delayed=0)
            for info in self.app.broker.queues(names)
        ]
        if delayed:
            found[0] = found[0]._replace(delayed=delayed)  # they lie together, whichever queue they are for
        return found

    def _held(self) -> int:
        return sum(info.ready + info.claimed + info.delayed for info in self.queues())

    def _waiting(self) -> set[str]:
        """The ids that the broker holds, looked for one by one: only a test that fails does so."""
        unended = self.ids("try") - self.ids("end")
        places = {each: self.app.broker.locate(each, ["celery"]) for each in unended or self.ids("end")}
        return {each for each, place in places.items() if place is not None and place.state != "dead"}

    def logs(self) -> str:
        """The end of each worker's log."""
        ends = {path.name: path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log")}
        return "\n".join(f"--- {name}\n{text}" for name, text in sorted(ends.items()))

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.end()
        self.app.close()
        self.reader.close()
        self.journal.close()


class Load(threading.Thread):
    """Sends tasks until it is over, as fast as they are run."""

    def __init__(self, stage: Stage, most_waiting: int) -> None:
        super().__init__(name="load")
        self.stage = stage
        self.most_waiting = most_waiting
        self.is_over = False
        self.error: BaseException | None = None
        self._random = random.Random(5)

    def run(self) -> None:
        try:
            sent = 0
            while not self.is_over:
                ended = sum(each.kind == "end" for each in self.stage.events())
                if sent - ended < self.most_waiting:
                    sent += len(self.stage.publish([self._call() for _ in range(20)]))
                else:
                    time.sleep(0.005)
        except BaseException as exc:
            self.error = exc

    def _call(self) -> tuple[str, tuple[object, ...]]:
        seconds = self._random.choice((0, 0.001, 0.001, 0.003, 0.01))
        return ("async_work" if self._random.random() < 0.25 else "work", (seconds,))
