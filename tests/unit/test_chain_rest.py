"""Long chains, whose steps wait in the result backend."""

from __future__ import annotations

import json
from collections import deque

import pytest

from fastq import FastQ, chain, chord, group
from fastq._core.message import Delivery
from fastq.backends.base import StoredResult
from fastq.canvas.rest import CHAIN_REST


class Bench:
    """An app whose messages are run here, one after the other."""

    def __init__(self, name):
        self.app = FastQ("rest", broker=f"memory://{name}", set_as_current=False)
        self.sent = deque()
        self.app.publish = lambda messages, *options: self.sent.extend(messages)
        self.ran = []
        self.bytes = 0

        @self.app.task(name="add")
        def add(a, b):
            self.ran.append((a, b))
            if b == "fail":
                raise ValueError("fail")
            return a + b

        @self.app.task(name="xsum")
        def xsum(numbers):
            return sum(numbers)

        self.add, self.xsum = add, xsum

    def run(self, *, until=lambda message: False):
        """Run what was sent, and what follows, to the end."""
        tracer = self.app.tracer()
        while self.sent and not until(self.sent[0]):
            message = self.sent.popleft()
            self.bytes += len(message.body)
            outcome = tracer.run(Delivery(message, None, message.queue))
            backend = self.app.backend
            if outcome.result is not None:
                backend.store([StoredResult(message.id, str(outcome.state), outcome.result)])
            if outcome.effects is not None:
                backend.store([StoredResult(*each) for each in outcome.effects.results])
            self.sent.extend(outcome.follow or ())


@pytest.fixture
def bench(request):
    bench = Bench(request.node.name)
    yield bench
    bench.app.close()


def carried(message):
    """The names of the tasks that *message* carries, in the order in which they run."""
    return [each["task"] for each in reversed(json.loads(message.body)[2].get("chain", []))]


def test_a_message_carries_a_block_and_what_reads_the_next(bench):
    result = chain(bench.add.s(i, i) if not i else bench.add.s(1) for i in range(200)).delay()
    assert carried(bench.sent[0]) == ["add"] * 64 + [CHAIN_REST]
    bench.run()
    assert result.get(timeout=1) == 199
    assert len(bench.ran) == 200
    assert result.parent.get(timeout=1) == 198


def test_bytes_grow_with_the_chain_and_not_with_its_square(bench):
    sizes = []
    for length in (500, 1000, 2000):
        bench.bytes = 0
        chain([bench.add.s(0, 0), *(bench.add.s(1) for _ in range(length))]).delay()
        bench.run()
        sizes.append(bench.bytes)
    assert sizes[2] - sizes[1] < 2.2 * (sizes[1] - sizes[0])


@pytest.mark.parametrize(
    ("block", "is_split"), [(0, False), (100, False), (99, False), (98, True), (1, True)]
)
def test_the_setting_says_how_many(bench, block, is_split):
    bench.app.conf.task_chain_block = block
    result = chain([bench.add.s(0, 0), *(bench.add.s(1) for _ in range(99))]).delay()
    assert (CHAIN_REST in carried(bench.sent[0])) is is_split
    bench.run()
    assert result.get(timeout=1) == 99


def test_where_celerys_workers_may_be_it_travels_whole(bench, monkeypatch):
    monkeypatch.setattr(type(bench.app.broker), "has_celery_peers", True)
    steps = [bench.add.s(0, 0), *(bench.add.s(1) for _ in range(99))]
    chain(steps).delay()
    assert CHAIN_REST not in carried(bench.sent.pop())
    bench.app.conf.task_chain_block = 10
    chain(steps).delay()
    assert CHAIN_REST in carried(bench.sent.pop())


def test_whoever_waits_for_the_end_hears_of_a_failure(bench):
    steps = [bench.add.s(0, 0), bench.add.s("fail"), *(bench.add.s(1) for _ in range(198))]
    result = chain(steps).delay()
    bench.run()
    with pytest.raises(ValueError, match="fail"):
        result.get(timeout=1)
    assert len(bench.ran) == 2


def test_it_goes_where_the_step_before_it_went(bench):
    bench.app.conf.task_routes = {"add": "adders"}
    steps = [
        bench.add.s(0, 0),
        *(bench.add.s(1) for _ in range(63)),
        bench.add.s(1).set(queue="own", priority=3),
    ]
    chain([*steps, *(bench.add.s(1) for _ in range(63)), bench.add.s(1), bench.add.s(1)]).delay()
    found = []
    while bench.sent:
        bench.run(until=lambda message: message.task == CHAIN_REST)
        if bench.sent:
            found.append((bench.sent[0].queue, bench.sent[0].priority))
            bench.run(until=lambda message: message.task != CHAIN_REST)
    assert found == [("own", 3), ("adders", None)]


def test_a_block_that_is_gone_fails_the_chain(bench):
    result = chain([bench.add.s(0, 0), *(bench.add.s(1) for _ in range(99))]).delay()
    bench.run(until=lambda message: message.task == CHAIN_REST)
    bench.app.backend._store.chains.clear()
    bench.run()
    with pytest.raises(Exception, match=r"block 0 of the chain .* is gone"):
        result.get(timeout=1)


def test_a_chain_in_a_header_is_one_part_of_it(bench):
    steps = [bench.add.s(0, 0), *(bench.add.s(1) for _ in range(99))]
    result = chord([chain(steps), bench.add.s(5, 5)], bench.xsum.s()).delay()
    parts = []

    def is_part(message):
        outcome = json.loads(message.body)[2]
        if "chord" in outcome:
            parts.append((message.task, message.headers["group_index"]))
        return False

    bench.run(until=is_part)
    # Nothing counts them here; what says of itself that it is a part is.
    assert sorted(parts) == [("add", 0), ("add", 1), (CHAIN_REST, 0)]
    assert result.parent is not None


def test_a_chain_that_ends_in_a_group_travels_whole(bench):
    steps = [bench.add.s(0, 0), *(bench.add.s(1) for _ in range(99))]
    chain([*steps, group(bench.add.s(1), bench.add.s(2))]).delay()
    assert CHAIN_REST not in carried(bench.sent[0])


def test_a_long_chain_that_ends_in_a_chord_has_its_bodys_id(bench):
    steps = [bench.add.s(0, 0), *(bench.add.s(1) for _ in range(99))]
    result = chain([*steps, group(bench.add.s(1), bench.add.s(2)), bench.xsum.s()]).delay()
    rest = json.loads(bench.sent[0].body)[2]["chain"][0]
    assert (rest["task"], rest["options"]["task_id"]) == (CHAIN_REST, result.id)
