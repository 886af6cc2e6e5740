"""Stamps that workflows get, by name or from visitors: those that Celery's canvas gives them."""

import celery.canvas
import pytest
from canvas_twins import plain, sides

import fastq.canvas


@pytest.fixture(scope="module")
def twins():
    return sides("stamping")


def in_order(value):
    """*value* with the names of stamps, which Celery keeps in sets, in order."""
    if isinstance(value, dict):
        return {
            key: sorted(item) if key == "stamped_headers" else in_order(item) for key, item in value.items()
        }
    return [in_order(item) for item in value] if isinstance(value, list) else value


def visitors(base):
    """Visitors that are the same but for the class *base* that Celery or fastq has for them."""

    class Plain(base):
        def on_signature(self, sig, **headers):
            return {"kind": sig.task}

    class Named(base):
        def on_signature(self, sig, **headers):
            return {"seen": 1, "kept": 2, "stamped_headers": ["kept"]}

    class Nothing(base):
        def on_signature(self, sig, **headers):
            return None

    class Everything(base):
        def on_signature(self, sig, **headers):
            return {"on_signature": len(headers)}

        def on_group_start(self, group, **headers):
            return {"on_group": len(list(group.tasks))}

        def on_chain_start(self, chain, **headers):
            return {"on_chain": len(chain.tasks)}

        def on_chord_header_start(self, sig, **header):
            return {"on_header": "header", **super().on_chord_header_start(sig, **header)}

        def on_chord_body(self, sig, **header):
            return {"on_body": True}

        def on_callback(self, callback, **header):
            return {"on_callback": callback.task}

        def on_errback(self, errback, **header):
            return {"on_errback": {"name": errback.task}}

    class Counting(Everything):
        def __init__(self):
            self.ends = []

        def on_group_end(self, group, **headers):
            self.ends.append(("group", sorted(headers)))

        def on_chain_end(self, chain, **headers):
            self.ends.append(("chain", sorted(headers)))

    return [None, Plain(), Named(), Nothing(), Everything(), Counting()]


def linked(side):
    sig = side.s(1)
    sig.link(side.s("callback"))
    sig.link(side.canvas.chain(side.s("first"), side.s("second")))
    sig.link_error(side.tasks["of_id"].s())
    return sig


SHAPES = {
    "task": linked,
    "chain": lambda side: side.canvas.chain(linked(side), side.s(2)),
    "linked chain": lambda side: side.canvas.chain(side.s(1), side.s(2)).on_error(side.tasks["of_id"].s()),
    "group": lambda side: side.canvas.group(linked(side), side.s(2)),
    "group of generator": lambda side: side.canvas.group(side.s(i) for i in range(2)),
    "chord": lambda side: side.canvas.chord([linked(side), side.s(2)], side.s(3)),
    "chord of group": lambda side: side.canvas.group(side.s(1), side.s(2)) | linked(side),
    "nested": lambda side: side.canvas.chain(
        side.s(0), side.canvas.group(side.s(1), side.canvas.chain(side.s(2), side.s(3))), side.s(4), side.s(5)
    ),
}


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("shape", SHAPES)
def test_stamps_are_celerys(twins, shape, number, append):
    stamped = []
    for side, base in zip(twins, (celery.canvas.StampingVisitor, fastq.canvas.StampingVisitor), strict=True):
        visitor = visitors(base)[number]
        sig = SHAPES[shape](side)
        # In Celery lists of stamps are shared by the parts that have them, so that they grow in all of
        # them; ours do not.
        for headers in ({"customer": 7}, {"customer": 8, "kind": "mine"})[
            : 1 if append and number > 3 else 2
        ]:
            sig.stamp(visitor, append_stamps=append, **headers)
        stamped.append((in_order(plain(sig)), getattr(visitor, "ends", None)))
    assert stamped[1] == stamped[0]


def test_a_visitor_must_say_what_a_task_gets():
    with pytest.raises(TypeError, match="on_signature"):
        fastq.canvas.StampingVisitor()
