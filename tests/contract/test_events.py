"""`app.events` on every broker: what a dispatcher sends, receivers hear."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from harness import PATIENCE, Harness

from fastq import FastQ
from fastq.events.snapshot import Polaroid


@pytest.fixture
def app(harness: Harness) -> Iterator[FastQ]:
    app = FastQ("proj", broker=harness.url, backend="memory://", set_as_current=False)
    # One server serves many tests.
    app.conf.event_exchange = f"ev.{id(app)}"
    yield app
    app.close()


class Monitor:
    """A receiver in a thread, and what it has heard; to be used within ``with``."""

    def __init__(self, app: FastQ, limit: int | None = None, **options: Any) -> None:
        self.state = app.events.State()
        self.heard: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self._app = app
        self._limit = limit
        self._hears = threading.Event()
        self._enough = threading.Event()
        self._options = options
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self._app.connection() as connection:
            handlers = {"task-failed": self._fail, "*": self._take}
            self.receiver = self._app.events.Receiver(connection, handlers=handlers, **self._options)
            self.receiver.wakeup_workers = lambda channel=None: self._hears.set()
            self.receiver.capture(limit=self._limit, timeout=PATIENCE, wakeup=True)
        self._enough.set()

    def _take(self, event: dict[str, Any]) -> None:
        self.heard.append(event)
        self.state.event(event)

    def _fail(self, event: dict[str, Any]) -> None:
        self.failed.append(event)
        self.state.event(event)

    def wait(self) -> None:
        """Until the limit is reached."""
        assert self._enough.wait(PATIENCE)

    def __enter__(self) -> Monitor:
        self._thread.start()
        assert self._hears.wait(PATIENCE)
        return self

    def __exit__(self, *exc: object) -> None:
        self.receiver.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def test_events_arrive_in_order_and_make_a_state(app: FastQ) -> None:
    with Monitor(app, limit=4) as monitor:
        with app.events.default_dispatcher(hostname="w1@here") as dispatcher:
            dispatcher.send("worker-online", freq=2.0, active=0)
            dispatcher.send("task-received", uuid="u1", name="proj.add", args="(1, 2)", kwargs="{}")
            dispatcher.send("task-failed", uuid="u1", exception="ValueError()", traceback="…")
            dispatcher.send("mine-thing", blind=True, answer=42)
        monitor.wait()
    assert [event["type"] for event in monitor.heard] == ["worker-online", "task-received", "mine-thing"]
    assert [event["uuid"] for event in monitor.failed] == ["u1"]
    online, received, mine = monitor.heard
    assert {"hostname": "w1@here", "freq": 2.0, "active": 0}.items() <= online.items()
    assert received["clock"] > online["clock"] and mine["answer"] == 42
    assert 0 <= received["local_received"] - received["timestamp"] < PATIENCE
    task = monitor.state.tasks["u1"]
    assert (task.state, task.name, task.exception) == ("FAILURE", "proj.add", "ValueError()")
    assert [worker.hostname for worker in monitor.state.alive_workers()] == ["w1@here"]
    assert app.clock.value > received["clock"]


def test_a_routing_key_admits_one_group(app: FastQ) -> None:
    with Monitor(app, limit=2, routing_key="worker.#") as monitor:
        with app.events.default_dispatcher() as dispatcher:
            for type_ in ("task-started", "worker-online", "task-sent", "worker-elect-ack"):
                dispatcher.send(type_, uuid="u")
        monitor.wait()
    assert [event["type"] for event in monitor.heard] == ["worker-online", "worker-elect-ack"]


def test_a_buffered_group_goes_out_as_one_list(app: FastQ) -> None:
    dispatcher = app.events.Dispatcher(buffer_group=["task"], buffer_limit=3, groups=["task"])
    with Monitor(app, limit=1) as monitor, dispatcher:
        dispatcher.send("worker-online")  # of no group that is sent
        for number in range(3):
            dispatcher.send("task-started", uuid=str(number))
        monitor.wait()
        dispatcher.disable()
        dispatcher.send("task-started", uuid="unsent")
    assert [event["uuid"] for event in monitor.heard] == ["0", "1", "2"]


def test_nothing_for_a_while_is_a_timeout(app: FastQ) -> None:
    receiver = app.events.Receiver()
    with pytest.raises(TimeoutError):
        receiver.capture(timeout=0.05, wakeup=False)


def test_a_task_tells_of_itself(app: FastQ) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        self.send_event("task-progress", done=3)

    with Monitor(app, limit=1) as monitor:
        result = work.apply()
        monitor.wait()
    assert [(each["type"], each["uuid"], each["done"]) for each in monitor.heard] == [
        ("task-progress", result.id, 3)
    ]
    assert monitor.state.tasks[result.id].state == "PROGRESS"


def test_a_camera_takes_pictures_of_what_was_heard(app: FastQ) -> None:
    pictures: list[tuple[int, list[str]]] = []

    class Camera(Polaroid):
        clear_after = True

        def on_shutter(self, state: Any) -> None:
            if state.event_count:
                pictures.append((state.event_count, sorted(state.tasks)))

    with Monitor(app, limit=2) as monitor, Camera(monitor.state, freq=600.0, app=app) as camera:
        with app.events.default_dispatcher() as dispatcher:
            dispatcher.send("task-started", uuid="u1")
            dispatcher.send("task-started", uuid="u2")
        monitor.wait()
        camera.capture()
        monitor.state.event({"type": "task-succeeded", "uuid": "u1"})
    assert pictures == [(2, ["u1", "u2"]), (1, ["u1", "u2"])]
