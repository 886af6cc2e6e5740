"""Signals: who is called, when, and for how long."""

import gc

import celery.signals
import pytest

from fastq import signals
from fastq.signals import Signal


@pytest.fixture
def signal():
    return Signal("moment", ["value"])


UNLISTED = ["import_modules", "user_preload_options", "task_sent"]  # Celery has them outside its __all__


@pytest.mark.parametrize("name", [*celery.signals.__all__, *UNLISTED])
def test_every_signal_of_celery_exists(name):
    ours, theirs = getattr(signals, name), getattr(celery.signals, name)
    assert ours.name == name
    assert set(theirs.providing_args) <= set(ours.providing_args)
    assert not ours.receivers


def test_send_gives_signal_sender_and_arguments(signal):
    got = []

    @signal.connect
    def receive(**named):
        got.append(named)
        return "answer"

    assert signal.send("me", value=3) == [(receive, "answer")]
    assert got == [{"signal": signal, "sender": "me", "value": 3}]


def test_receivers_is_false_until_someone_listens(signal):
    assert not signal.receivers
    assert signal.send(None) == []

    def receive(**_):
        pass

    signal.connect(receive)
    assert signal.receivers
    assert signal.disconnect(receive)
    assert not signal.receivers
    assert not signal.disconnect(receive)


def test_a_raising_receiver_is_logged_and_the_others_still_run(signal, caplog):
    error = ValueError("no")

    def bad(**_):
        raise error

    def good(**_):
        return 1

    signal.connect(bad)
    signal.connect(good)
    assert signal.send(None) == [(bad, error), (good, 1)]
    assert "bad" in caplog.text and "ValueError('no')" in caplog.text


def test_receivers_run_in_the_order_of_connection(signal):
    got = []
    receivers = [lambda number=number, **_: got.append(number) for number in range(5)]
    for receiver in receivers:
        signal.connect(receiver)
    signal.send(None)
    assert got == [0, 1, 2, 3, 4]


def test_receivers_are_held_weakly(signal):
    def receive(**_):
        return 1

    signal.connect(receive)
    del receive
    gc.collect()
    assert signal.send(None) == []
    assert not signal.receivers


def test_weak_false_keeps_the_receiver(signal):
    signal.connect(lambda **_: 1, weak=False)
    gc.collect()
    assert [answer for _, answer in signal.send(None)] == [1]


def test_a_bound_method_lives_as_long_as_its_instance(signal):
    class Listener:
        def receive(self, **_):
            return id(self)

    one, two = Listener(), Listener()
    signal.connect(one.receive)
    signal.connect(two.receive)
    signal.connect(two.receive)
    gc.collect()
    assert [answer for _, answer in signal.send(None)] == [id(one), id(two)]
    del one
    gc.collect()
    assert [answer for _, answer in signal.send(None)] == [id(two)]
    assert signal.disconnect(two.receive)
    assert not signal.receivers


def test_sender_filters_by_identity_or_name(signal):
    class Sender:
        def __eq__(self, other):
            return True

        __hash__ = None

    mine, got = Sender(), []

    @signal.connect(sender=mine)
    def on_object(**_):
        got.append("object")

    @signal.connect(sender="proj.add")
    def on_name(**_):
        got.append("name")

    signal.send(Sender())
    assert got == []
    signal.send(mine)
    signal.send("".join(["proj.", "add"]))
    assert got == ["object", "name"]
    assert signal.has_listeners("proj.add")
    assert not signal.has_listeners("proj.other")


def test_the_same_receiver_is_called_once_per_sender(signal):
    def receive(**_):
        pass

    signal.connect(receive)
    signal.connect(receive)
    assert len(signal.send("a")) == 1
    signal.connect(receive, sender="a")
    assert len(signal.send("a")) == 2


def test_dispatch_uid_names_the_connection(signal):
    def one(**_):
        pass

    def two(**_):
        pass

    signal.connect(one, dispatch_uid="only")
    signal.connect(two, dispatch_uid="only")
    assert [receiver for receiver, _ in signal.send(None)] == [one]
    assert not signal.disconnect(one)
    assert signal.disconnect(dispatch_uid="only")
    assert not signal.receivers


def test_retry_calls_again_until_the_receiver_does_not_raise(signal, monkeypatch, caplog):
    waited, calls = [], []
    monkeypatch.setattr(signals, "sleep", waited.append)

    @signal.connect(retry=True)
    def receive(**named):
        calls.append(named["value"])
        if len(calls) < 18:
            raise ConnectionError("away")
        return "done"

    [(_, answer)] = signal.send(None, value=7)
    assert answer == "done"
    assert calls == [7] * 18
    assert waited == [*range(2, 31, 2), 30, 30]
    assert "ConnectionError('away')" in caplog.text


def test_a_retried_receiver_is_held_strongly_and_disconnects_by_its_function(signal):
    def receive(**_):
        return 1

    signal.connect(receive, retry=True)
    assert signal.disconnect(receive)
    signal.connect(receive, retry=True)
    del receive
    gc.collect()
    assert len(signal.send(None)) == 1


def test_a_receiver_must_take_keywords_and_be_callable(signal):
    def narrow(sender):
        pass

    with pytest.raises(ValueError, match=r"narrow.*\*\*kwargs"):
        signal.connect(narrow)
    with pytest.raises(TypeError, match="callable"):
        signal.connect("not a function")


def test_a_receiver_may_disconnect_itself_while_it_runs(signal):
    def once(**_):
        signal.disconnect(once)

    def after(**_):
        pass

    signal.connect(once)
    signal.connect(after)
    assert len(signal.send(None)) == 2
    assert [receiver for receiver, _ in signal.send(None)] == [after]


def test_repr_names_the_signal(signal):
    assert repr(signal) == "<Signal: moment providing_args=['value']>"
