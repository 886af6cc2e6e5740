"""Spans of a task: sent, waiting and running are one trace, over the process's border."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastq import FastQ
from fastq.contrib.opentelemetry import instrument, uninstrument
from fastq.contrib.testing import TestApp as make_app
from fastq.contrib.testing import drain


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Keeps the spans of the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(provider)
    instrument(provider)  # a second call changes nothing
    yield exporter
    uninstrument()


@pytest.fixture
def app() -> Iterator[FastQ]:
    app = make_app()

    @app.task(name="outer")
    def outer() -> None:
        inner.delay()

    @app.task(name="inner")
    def inner() -> str:
        return trace.get_current_span().get_span_context().span_id.to_bytes(8, "big").hex()

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("boom")

    @app.task(name="again", bind=True)
    def again(self: Any) -> None:
        if not self.request.retries:
            raise self.retry(countdown=0)

    yield app
    app.close()


def parents(spans: dict[str, ReadableSpan]) -> dict[str, str | None]:
    """The name of each span's parent."""
    names = {span.context.span_id: name for name, span in spans.items()}
    return {name: None if span.parent is None else names[span.parent.span_id] for name, span in spans.items()}


def test_sent_waited_and_run_are_one_trace(app: FastQ, exporter: InMemorySpanExporter) -> None:
    app.tasks["outer"].delay()
    drain(app)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert parents(spans) == {
        "send outer": None,
        "wait outer": "send outer",
        "run outer": "wait outer",
        "send inner": "run outer",  # sent by the task
        "wait inner": "send inner",
        "run inner": "wait inner",
    }
    assert len({span.context.trace_id for span in spans.values()}) == 1
    sent, waited, run = (spans[f"{what} outer"] for what in ("send", "wait", "run"))
    assert sent.start_time // 10**6 <= waited.start_time // 10**6 + 1
    assert waited.start_time <= waited.end_time <= run.end_time
    assert run.links[0].context.span_id == sent.context.span_id
    assert run.attributes["messaging.destination.name"] == "celery"
    assert run.attributes["fastq.task.state"] == "SUCCESS"


def test_the_span_of_a_run_is_the_current_one_in_the_task(app: FastQ, exporter: InMemorySpanExporter) -> None:
    result = app.tasks["inner"].delay()
    drain(app)
    (run,) = (span for span in exporter.get_finished_spans() if span.name == "run inner")
    assert result.get(timeout=0) == run.context.span_id.to_bytes(8, "big").hex()
    assert not trace.get_current_span().get_span_context().is_valid


def test_failures_and_retries_are_told(app: FastQ, exporter: InMemorySpanExporter) -> None:
    app.tasks["fail"].delay()
    app.tasks["again"].delay()
    drain(app)
    runs = [span for span in exporter.get_finished_spans() if span.name.startswith("run")]
    failed, retried, done = runs
    assert not failed.status.is_ok and failed.events[0].attributes["exception.message"] == "boom"
    assert retried.events[0].name == "retry" and retried.attributes["fastq.task.state"] == "RETRY"
    assert done.attributes["fastq.task.retries"] == 1 and done.status.is_ok


def test_nothing_is_traced_when_it_is_off(app: FastQ, exporter: InMemorySpanExporter) -> None:
    uninstrument()
    app.tasks["inner"].delay()
    drain(app)
    assert exporter.get_finished_spans() == ()
