"""The contract of `fastq.backends.base`, for every backend."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import count, pairwise, takewhile

import pytest
from harness import PATIENCE, Harness

from fastq._core.message import new_id
from fastq.backends.base import Backend, Pulse, StoredResult


def success(task_id: str, document: bytes = b'{"status": "SUCCESS"}') -> StoredResult:
    return StoredResult(task_id, "SUCCESS", document)


def started(task_id: str) -> StoredResult:
    return StoredResult(task_id, "STARTED", b'{"status": "STARTED"}')


def collect(
    backend: Backend, task_ids: list[str], count: int, timeout: float = PATIENCE
) -> list[tuple[str, bytes]]:
    """The first *count* documents that `wait` yields."""
    found: list[tuple[str, bytes]] = []
    with closing(backend.wait(task_ids, PATIENCE)) as arriving:
        for each in arriving:
            found.append(each)
            if len(found) == count:
                break
    return found


def test_what_is_stored_is_fetched_in_the_order_asked(harness: Harness) -> None:
    a, b, missing = new_id(), new_id(), new_id()
    harness.open_backend().store([success(a, b"A"), success(b, b"B")])
    assert harness.open_backend().fetch([b, missing, a, b]) == [b"B", None, b"A", b"B"]
    assert harness.open_backend().fetch([]) == []


@pytest.mark.parametrize("task_id", ["höhe", "a b:c{d}", "日本", "x'\"%"])
def test_ids_may_hold_any_character(harness: Harness, task_id: str) -> None:
    backend = harness.open_backend()
    backend.store([success(task_id, b"A")])
    assert backend.fetch([task_id]) == [b"A"]


def test_a_later_state_replaces_an_earlier_one(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([started(task_id)])
    backend.store([StoredResult(task_id, "FAILURE", b"failed")])
    backend.store([success(task_id, b"done")])
    assert backend.fetch([task_id]) == [b"done"]


def test_a_success_is_never_overwritten(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([success(task_id, b"done")])
    backend.store([started(task_id)])
    backend.store([StoredResult(task_id, "FAILURE", b"failed")])
    backend.store([success(task_id, b"again")])
    assert backend.fetch([task_id]) == [b"done"]


def test_of_one_task_in_one_batch_the_last_counts_up_to_a_success(harness: Harness) -> None:
    backend, a, b = harness.open_backend(), new_id(), new_id()
    backend.store([started(a), success(a, b"A"), success(b, b"B"), started(b)])
    assert backend.fetch([a, b]) == [b"A", b"B"]


def test_a_result_expires(harness: Harness) -> None:
    backend, task_id = harness.open_backend(expires=0.1), new_id()
    backend.store([success(task_id)])
    assert backend.fetch([task_id]) != [None]
    time.sleep(0.15)
    assert backend.fetch([task_id]) == [None]
    backend.store([started(task_id)])
    assert backend.fetch([task_id]) == [started(task_id).document]


def test_failures_may_have_a_life_of_their_own(harness: Harness) -> None:
    backend, failed, done = harness.open_backend(expires=100.0, failure_expires=0.1), new_id(), new_id()
    backend.store([StoredResult(failed, "FAILURE", b"F"), success(done, b"D")])
    time.sleep(0.15)
    assert backend.fetch([failed, done]) == [None, b"D"]


def test_a_result_without_an_end_is_kept(harness: Harness) -> None:
    backend, task_id = harness.open_backend(expires=None), new_id()
    backend.store([success(task_id)])
    backend.cleanup()
    assert backend.fetch([task_id]) != [None]


def test_cleanup_leaves_what_has_not_expired(harness: Harness) -> None:
    old, new = new_id(), new_id()
    harness.open_backend(expires=0.05).store([success(old)])
    backend = harness.open_backend()
    backend.store([success(new, b"new")])
    time.sleep(0.1)
    backend.cleanup()
    assert backend.fetch([old, new]) == [None, b"new"]
    assert backend.cleanup() == 0


def test_forget(harness: Harness) -> None:
    backend, a, b = harness.open_backend(), new_id(), new_id()
    backend.store([success(a, b"A"), success(b, b"B")])
    backend.forget([a, "unknown"])
    assert backend.fetch([a, b]) == [None, b"B"]
    backend.store([started(a)])
    assert backend.fetch([a]) == [started(a).document]


def test_wait_yields_what_is_there_already(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([success(task_id, b"A")])
    assert collect(backend, [new_id(), task_id], 1) == [(task_id, b"A")]


def test_wait_yields_what_arrives_soon_after_it_does(harness: Harness) -> None:
    task_id = new_id()
    other = harness.open_backend()
    stored_at: list[float] = []

    def store() -> None:
        other.store([success(task_id, b"A")])
        stored_at.append(time.monotonic())

    timer = threading.Timer(0.3, store)
    timer.start()
    assert collect(harness.open_backend(), [task_id], 1) == [(task_id, b"A")]
    arrived_at = time.monotonic()
    timer.join()
    assert arrived_at - stored_at[0] < 0.5


def test_wait_yields_every_state_that_comes(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([started(task_id)])
    with closing(backend.wait([task_id], PATIENCE)) as arriving:
        assert next(arriving) == (task_id, started(task_id).document)
        harness.open_backend().store([success(task_id, b"A")])
        assert next(arriving) == (task_id, b"A")


def test_wait_ends_at_its_timeout(harness: Harness) -> None:
    began = time.monotonic()
    assert list(harness.open_backend().wait([new_id()], 0.1)) == []
    assert 0.09 <= time.monotonic() - began < 2.0
    assert list(harness.open_backend().wait([new_id()], 0.0)) == []


def test_wait_without_time_yields_what_is_there(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([success(task_id, b"A")])
    assert list(backend.wait([task_id], 0.0)) == [(task_id, b"A")]


def test_wait_for_thousands(harness: Harness) -> None:
    task_ids = [new_id() for _ in range(1000)]
    writer = harness.open_backend()
    writer.store([success(each, each.encode()) for each in task_ids[:100]])

    def store_the_rest() -> None:
        for start in range(100, 1000, 50):
            batch = [success(each, each.encode()) for each in task_ids[start : start + 50]]
            writer.store([success(new_id()), *batch])

    thread = threading.Thread(target=store_the_rest)
    thread.start()
    found: dict[str, bytes] = {}
    with closing(harness.open_backend().wait(task_ids, PATIENCE)) as arriving:
        for task_id, document in arriving:  # what is stored while it is looked for may come twice
            found[task_id] = document
            if len(found) == 1000:
                break
    thread.join()
    assert found == {each: each.encode() for each in task_ids}


def test_wait_yields_what_is_there_in_the_order_asked(harness: Harness) -> None:
    task_ids = [new_id() for _ in range(300)]
    harness.open_backend().store([success(each, each.encode()) for each in sorted(task_ids)])
    assert collect(harness.open_backend(), task_ids, 300) == [(each, each.encode()) for each in task_ids]


def test_a_pulse_beats_while_nothing_arrives(harness: Harness) -> None:
    beats: list[float] = []
    pulse = Pulse(lambda: beats.append(time.monotonic()), 0.05)
    began = time.monotonic()
    assert list(harness.open_backend().wait([new_id()], 0.3, pulse)) == []
    assert time.monotonic() - began >= 0.29
    assert 2 <= len(beats) <= 6
    assert all(later - earlier >= 0.045 for earlier, later in pairwise(beats))


def test_a_pulse_beats_while_much_arrives(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    beats: list[float] = []
    pulse = Pulse(lambda: beats.append(time.monotonic()), 0.02)
    with closing(backend.wait([task_id], PATIENCE, pulse)) as arriving:
        for number in takewhile(lambda _: len(beats) < 3, count()):
            backend.store([StoredResult(task_id, "STARTED", b"%d" % number)])
            assert next(arriving)[0] == task_id


def test_a_pulse_without_a_pause_leaves_time_to_look(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([success(task_id, b"A")])
    arriving = backend.wait([task_id], PATIENCE, Pulse(lambda: None, 0.0))
    assert next(arriving) == (task_id, b"A")


def test_what_a_pulse_raises_ends_the_wait(harness: Harness) -> None:
    def stop() -> None:
        raise KeyError("enough")

    backend, task_id = harness.open_backend(), new_id()
    with pytest.raises(KeyError, match="enough"):
        list(backend.wait([task_id], PATIENCE, Pulse(stop, 0.01)))
    backend.store([success(task_id, b"A")])
    assert collect(backend, [task_id], 1) == [(task_id, b"A")]


def test_a_caller_may_delete_what_it_no_longer_wants(harness: Harness) -> None:
    wanted = dict.fromkeys(new_id() for _ in range(250))
    names, writer = list(wanted), harness.open_backend()
    writer.store([success(each) for each in names[:200]])
    with closing(harness.open_backend().wait(wanted, PATIENCE)) as arriving:
        for _ in range(200):
            del wanted[next(arriving)[0]]
        writer.store([success(each) for each in names[200:]])
        for _ in range(50):
            del wanted[next(arriving)[0]]
    assert wanted == {}


def test_a_result_that_was_forgotten_and_came_again_is_seen(harness: Harness) -> None:
    task_ids = [new_id() for _ in range(100)]
    backend = harness.open_backend()
    backend.store([success(task_ids[0], b"old")])
    with closing(harness.open_backend().wait(task_ids, PATIENCE)) as arriving:
        assert next(arriving) == (task_ids[0], b"old")
        backend.forget(task_ids[:1])
        backend.store([success(task_ids[0], b"new")])
        assert next(arriving) == (task_ids[0], b"new")


def test_several_threads_wait_on_one_backend(harness: Harness) -> None:
    backend = harness.open_backend()
    task_ids = [new_id() for _ in range(8)]
    found: dict[str, list[tuple[str, bytes]]] = {}

    def wait(task_id: str) -> None:
        found[task_id] = collect(backend, [task_id], 1)

    threads = [threading.Thread(target=wait, args=(each,)) for each in task_ids]
    for thread in threads:
        thread.start()
    for each in task_ids:
        harness.open_backend().store([success(each, each.encode())])
    for thread in threads:
        thread.join(30)
    assert found == {each: [(each, each.encode())] for each in task_ids}


def test_a_wait_that_is_dropped_leaves_others_alone(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    dropped = backend.wait([task_id], PATIENCE)
    backend.store([started(task_id)])
    next(dropped)
    dropped.close()
    backend.store([success(task_id, b"A")])
    assert collect(backend, [task_id], 1) == [(task_id, b"A")]


def test_a_document_of_five_megabytes(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([success(task_id, b"x" * 5_000_000)])
    assert backend.fetch([task_id]) == [b"x" * 5_000_000]


def test_a_closed_backend_may_be_used_again(harness: Harness) -> None:
    backend, task_id = harness.open_backend(), new_id()
    backend.store([success(task_id, b"A")])
    backend.close()
    assert backend.fetch([task_id]) == [b"A"]


def test_a_saved_group_is_restored(harness: Harness) -> None:
    harness.open_backend().save_group("höhe {1}", b"old")
    harness.open_backend().save_group("höhe {1}", b"new")
    backend = harness.open_backend()
    assert [backend.restore_group(each) for each in ("höhe {1}", "another")] == [b"new", None]
    backend.delete_group("höhe {1}")
    backend.delete_group("another")
    assert backend.restore_group("höhe {1}") is None


def test_a_group_is_no_result(harness: Harness) -> None:
    backend, name = harness.open_backend(), new_id()
    backend.save_group(name, b"group")
    assert backend.fetch([name]) == [None]
    backend.store([success(name, b"task")])
    backend.forget([name])
    assert backend.restore_group(name) == b"group"


def test_a_saved_group_expires_as_a_result_does(harness: Harness) -> None:
    passing, lasting = harness.open_backend(expires=0.1), harness.open_backend(expires=None)
    passing.save_group("short", b"short")
    lasting.save_group("long", b"long")
    assert passing.restore_group("short") == b"short"
    time.sleep(0.15)
    assert [passing.restore_group(each) for each in ("short", "long")] == [None, b"long"]
    deletes_by_itself = harness.backend_url.startswith("redis:")
    assert passing.cleanup() == (0 if deletes_by_itself else 1)
    assert lasting.cleanup() == 0
    assert lasting.restore_group("long") == b"long"


def test_it_shares_a_store_with_the_broker_of_the_same_place(harness: Harness) -> None:
    harness.must_commit()
    assert harness.open_backend().shares_store_with(harness.open())
