"""What a worker is made of, without one running."""

from __future__ import annotations

import os
import signal
import threading
from unittest.mock import Mock

import pytest

from fastq import Broadcast, Exchange, FastQ, Queue
from fastq._core.message import Delivery, Message
from fastq.backends.base import StoredResult
from fastq.cli.worker import ready_worker
from fastq.exceptions import ImproperlyConfigured, OperationalError
from fastq.wakeup import Waker
from fastq.worker import stopping
from fastq.worker.banner import facts, prefetch_line
from fastq.worker.checks import choose_queues, refuse_pickle_as_root
from fastq.worker.cpus import available_cpus, cgroup_quota
from fastq.worker.daemon import PidFile, drop_privileges, parse_umask
from fastq.worker.duplicates import Duplicates
from fastq.worker.nodes import expand, expand_path, node_name
from fastq.worker.reload import changes, is_project_file, project_files
from fastq.worker.stopping import SignalHandlers, stop_line
from fastq.worker.worker import Worker


def test_formats_expand_as_celerys_do():
    assert (
        expand("%h|%n|%d|%p|%i%I|%%", host="a.example.org", name="w")
        == "a.example.org|w|example.org|w@a.example.org|0|%"
    )
    assert expand_path("/log/%n-%h%I.log", "w1@a.org") == "/log/w1-a.org.log"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (None, "fastq@box.org"),
        ("w1", "w1@box.org"),
        ("w1@other", "w1@other"),
        ("w1@%h", "w1@box.org"),
        ("w1.%d", "w1.org@box.org"),
        ("@other", "fastq@other"),
    ],
)
def test_node_names_have_defaults(monkeypatch, wanted, name):
    monkeypatch.setattr("socket.gethostname", lambda: "box.org")
    assert node_name(wanted) == name


def test_the_cpu_quota_of_a_container_counts(tmp_path, monkeypatch):
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, count in (("50000", 0.5), ("-1", None)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert cgroup_quota(tmp_path) == count
    monkeypatch.setattr("fastq.worker.cpus.cgroup_quota", lambda root: 0.2)
    assert available_cpus() == 1


def test_queues_are_chosen():
    assert choose_queues(["a", "b"], (), (), False) == ["a", "b"]
    assert choose_queues(["a"], ("c", "a", "c"), (), True) == ["c", "a"]
    assert choose_queues(["a", "b"], (), ("a",), False) == ["b"]
    with pytest.raises(ImproperlyConfigured, match="did you mean 'mail'"):
        choose_queues(["mail"], ("mial",), (), False)
    with pytest.raises(ImproperlyConfigured, match="no queue is left"):
        choose_queues(["a"], (), ("a",), False)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, ["celery", "all", "bcast.1"]),
        ({"queues": ["log", "news"]}, ["all", "bcast.1"]),
        ({"exclude_queues": ["news", "log"]}, ["celery"]),
        ({"queues": ["all", "other"], "exclude_queues": ["log"]}, ["other"]),
    ],
)
def test_queues_are_chosen_by_their_names_or_aliases(options, chosen):
    queues = [
        Queue("celery"),
        Queue("all", Exchange("logs", "topic"), "#", alias="log"),
        Broadcast("news", queue="bcast.1"),
    ]
    settings = {
        "task_queues": queues,
        "worker_direct": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }
    with FastQ("told", broker="memory://told", set_as_current=False, changes=settings) as app:
        worker = Worker(app, pool="solo", hostname="w@here", **options)
        worker.prepare()
        try:
            assert worker.queue_names == [*chosen, "w@here.dq2"]
            assert app.router.declaration("w@here.dq2").all_bindings[0].exchange.name == "C.dq2"
            assert app.queue_names() == ["celery", "all"]  # nobody else's business
            shown = dict(facts(worker))["queues"].split(", ")
            assert shown == [{"all": "log", "bcast.1": "news"}.get(name, name) for name in worker.queue_names]
        finally:
            worker._end()


def test_root_does_not_unpickle(monkeypatch):
    monkeypatch.delenv("C_FORCE_ROOT", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    refuse_pickle_as_root(["json"])
    with pytest.raises(ImproperlyConfigured, match="C_FORCE_ROOT"):
        refuse_pickle_as_root(["json", "pickle"])
    monkeypatch.setenv("C_FORCE_ROOT", "1")
    refuse_pickle_as_root(["pickle"])
    monkeypatch.delenv("C_FORCE_ROOT")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    refuse_pickle_as_root(["pickle"])


def test_a_pid_file_left_behind_is_taken_over(tmp_path):
    path = tmp_path / "w.pid"
    path.write_text(f"{os.getppid()}\n")  # a live process, but none that holds the file
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_pid_file_has_one_worker(tmp_path):
    path = tmp_path / "w.pid"
    held_read, held_write = os.pipe()
    done_read, done_write = os.pipe()
    if (child := os.fork()) == 0:
        PidFile(path).acquire()
        os.write(held_write, b"!")
        os.read(done_read, 1)
        os._exit(0)
    os.read(held_read, 1)
    try:
        with pytest.raises(ImproperlyConfigured, match=rf"runs already .*w.pid \(process {child}\)"):
            PidFile(path).acquire()
    finally:
        os.write(done_write, b"!")
        os.waitpid(child, 0)
        for fd in (held_read, held_write, done_read, done_write):
            os.close(fd)


def test_a_pid_file_that_can_not_be_written_says_which_and_why(tmp_path):
    with pytest.raises(
        ImproperlyConfigured, match=r"pid file .*/no/w.pid can't be written: No such file .* --pidfile"
    ):
        PidFile(tmp_path / "no" / "w.pid").acquire()


def test_unknown_users_and_umasks_are_errors():
    with pytest.raises(ImproperlyConfigured, match="nobody-of-that-name"):
        drop_privileges("nobody-of-that-name", None)
    assert parse_umask("022") == 0o022
    with pytest.raises(ImproperlyConfigured, match="not an octal number"):
        parse_umask("9")


def test_the_settings_give_user_group_and_umask_where_the_command_does_not(monkeypatch):
    calls = []
    monkeypatch.setattr("os.umask", lambda umask: calls.append(umask))
    monkeypatch.setattr("fastq.worker.daemon.drop_privileges", lambda *ids: calls.append(ids))
    monkeypatch.setattr("fastq.cli.worker.prepare", lambda made: None)
    monkeypatch.setattr("fastq.cli.worker.make_worker", lambda *rest: None)
    app = FastQ("restricted", set_as_current=False, worker_uid=7, worker_gid="g", worker_umask="022")
    target = Mock(load_app=lambda: app)
    options = {"detach": False, "uid": None, "gid": None, "umask": None}
    ready_worker(target, options, {})
    assert calls == [0o022, ("7", "g")]
    calls.clear()
    ready_worker(target, {**options, "uid": "me", "umask": "077"}, {})
    assert calls == [0o077, ("me", None)]
    app.close()


def test_changed_files_are_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "tasks.py")
    assert changes({file: 1}, {file: 1}) is None
    assert changes({file: 1}, {file: 2}) == "tasks.py"
    assert changes({}, {file: 2}) == "tasks.py"
    assert changes({file: 1}, {}) == "tasks.py"


def test_only_the_project_is_watched(tmp_path):
    for name in ("a.py", "pkg/b.py", "venv/lib/c.py", ".hidden/d.py", "e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(os.path.relpath(file, tmp_path) for file in project_files(tmp_path)) == ["a.py", "pkg/b.py"]
    assert is_project_file(str(tmp_path / "a.py"))
    assert not is_project_file(os.__file__)
    assert not is_project_file(pytest.__file__)


def test_prefetch_is_explained():
    assert prefetch_line("auto", 4).startswith("auto")
    assert prefetch_line(0, 4) == "unlimited"
    assert prefetch_line(4, 2) == "8 (4 per slot)"


def test_a_stop_says_how_many_run_and_how_long_is_left():
    assert stop_line(0, 25.0) == "Stopping: no task runs"
    assert stop_line(1, 25.0).startswith("Stopping: 1 task runs, at most 25 s left")
    assert stop_line(3, 5.4).startswith("Stopping: 3 tasks run, at most 5 s left")
    assert "the time is up; 2 tasks run" in stop_line(2, -1.0)
    assert stop_line(1, 9.0).endswith("another signal gives everything back at once")
    assert stop_line(1, 9.0, 3.0).endswith("another signal leaves 3 s")


class FakePool:
    runs_inline = False


class FakeLoop:
    def __init__(self) -> None:
        self.calls: list[object] = []
        self.asked = threading.Event()

    def stop(self, timeout: float) -> None:
        self.calls.append(timeout)

    def abort(self) -> None:
        self.calls.append("abort")

    def running(self) -> list[object]:
        self.asked.set()
        return []


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr("os.isatty", lambda fd: False)
    waker = Waker()
    with SignalHandlers("w@h", FakeLoop(), FakePool(), waker, 25.0) as entered:
        yield entered
        entered.loop.asked.wait(5)
    waker.close()


def test_the_first_signal_stops_and_the_second_aborts(handlers):
    os.kill(os.getpid(), signal.SIGTERM)
    assert handlers.loop.calls == [25.0]
    assert handlers.exit_code == 0
    os.kill(os.getpid(), signal.SIGINT)
    assert handlers.loop.calls == [25.0, "abort"]
    assert handlers.exit_code == 128 + signal.SIGINT


def test_quit_aborts_at_once(handlers):
    handlers.loop.asked.set()
    os.kill(os.getpid(), signal.SIGQUIT)
    assert handlers.loop.calls == ["abort"]


def test_quit_leaves_running_tasks_the_soft_timeout_and_the_next_signal_aborts():
    waker = Waker()
    with SignalHandlers("w@h", FakeLoop(), FakePool(), waker, 25.0, 3.0) as entered:
        for calls in ([3.0], [3.0, "abort"]):
            os.kill(os.getpid(), signal.SIGQUIT)
            assert entered.loop.calls == calls
        assert entered.exit_code == 128 + signal.SIGQUIT
        assert entered.loop.asked.wait(5)
    waker.close()


def test_the_second_signal_may_be_soft_too():
    waker = Waker()
    with SignalHandlers("w@h", FakeLoop(), FakePool(), waker, 25.0, 3.0) as entered:
        for calls in ([25.0], [25.0, 3.0], [25.0, 3.0, "abort"]):
            os.kill(os.getpid(), signal.SIGTERM)
            assert entered.loop.calls == calls
        assert entered.loop.asked.wait(5)
    waker.close()


def test_hang_up_restarts_a_daemon(handlers):
    os.kill(os.getpid(), signal.SIGHUP)
    assert handlers.loop.calls == [25.0]
    assert handlers.wants_restart


def test_term_may_be_made_to_mean_quit(monkeypatch):
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    waker = Waker()
    with SignalHandlers("w@h", FakeLoop(), FakePool(), waker, 25.0) as entered:
        os.kill(os.getpid(), signal.SIGTERM)
    waker.close()
    assert entered.loop.calls == ["abort"]


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    waker = Waker()
    with SignalHandlers("w@h", FakeLoop(), FakePool(), waker, 25.0):
        assert signal.getsignal(signal.SIGTERM) != before
    waker.close()
    assert signal.getsignal(signal.SIGTERM) == before


def test_stacks_of_all_threads_are_logged(caplog):
    stopping.log_stacks()
    assert "test_stacks_of_all_threads_are_logged" in caplog.text


class NoBroker:
    """A broker that is away."""

    def consumer(self, *args):
        return self

    def turn(self, *args):
        raise OperationalError("nobody answers")

    def close(self):
        pass


@pytest.mark.parametrize(
    "settings", [{"broker_connection_retry": False}, {"broker_connection_retry_on_startup": False}]
)
def test_a_worker_that_shall_not_try_again_says_so_at_its_start(settings):
    with FastQ("away", broker="memory://away", set_as_current=False, changes=settings) as app:
        app._broker = NoBroker()
        worker = Worker(app, pool="solo")
        worker._waker = None
        with pytest.raises(OperationalError):
            worker._open_consumer(None, None)


def test_a_worker_is_as_the_settings_say_where_no_option_does(tmp_path):
    settings = {
        "worker_direct": True,
        "worker_logfile": str(tmp_path / "%n.log"),
        "worker_pidfile": str(tmp_path / "%n.pid"),
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }
    with FastQ("told", broker="memory://told", set_as_current=False, changes=settings) as app:
        worker = Worker(app, pool="solo", hostname="w@here")
        worker.prepare()
        try:
            assert worker.queue_names == ["celery", "w@here.dq2"]
            assert worker.logfile == settings["worker_logfile"]
            assert (tmp_path / "w.pid").exists()
        finally:
            worker._end()


@pytest.mark.parametrize(
    ("pool", "wanted", "slots"),
    [
        ("prefork", "auto", 3),
        ("prefork", None, 3),
        ("gevent", "auto", 3),
        ("gevent", None, 100),
        ("prefork", 2, 2),
        ("solo", "auto", 1),
    ],
)
@pytest.mark.parametrize("is_option", [True, False])
def test_auto_is_as_many_as_there_are_processors(monkeypatch, pool, wanted, slots, is_option):
    monkeypatch.setattr("fastq.worker.worker.available_cpus", lambda: 3)
    changes = {} if is_option else {"worker_concurrency": wanted}
    with FastQ("sized", broker="memory://sized", set_as_current=False, changes=changes) as app:
        worker = Worker(app, pool=pool, concurrency=wanted if is_option else None)
        worker._configure()
        assert worker.concurrency == slots


def test_a_pool_that_can_end_no_task_says_so(caplog):
    changes = {"worker_cancel_long_running_tasks_on_connection_loss": True}
    changes |= {"worker_hijack_root_logger": False, "worker_redirect_stdouts": False}
    for pool, says in (("solo", True), ("prefork", False)):
        with FastQ("ends", broker="memory://ends", set_as_current=False, changes=changes) as app:
            worker = Worker(app, pool=pool, concurrency=1)
            worker.prepare()
            worker._end()
        assert (f"the {pool} pool can't end a task that runs" in caplog.text) == says


def test_a_duplicate_is_what_has_succeeded(caplog):
    with FastQ("dup", broker="memory://dup", backend="memory://dup", set_as_current=False) as app:
        documents = {"done": b'{"status":"SUCCESS"}', "tried": b'{"status":"RETRY"}', "odd": b"?"}
        app.backend.store([StoredResult(name, "", document) for name, document in documents.items()])
        duplicates = Duplicates(app, app.backend)
        suspects = [Delivery(Message("t", name, {}, b"", queue="q"), name, "q", 1) for name in documents]
        suspects.append(Delivery(Message("t", "new", {}, b"", queue="q"), "new", "q", 1))
        assert [each.tag for each in duplicates.among(suspects)] == ["done"]
        app.backend.fetch = NoBroker().turn
        assert duplicates.among(suspects) == []
        assert "can't be told: nobody answers" in caplog.text
