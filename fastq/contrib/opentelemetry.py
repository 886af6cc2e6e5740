"""OpenTelemetry traces of tasks: where one is sent, while it waits, and while it runs (docs/metrics.md).

The three are one trace: the message carries the sender's context in the headers of W3C Trace Context
(``traceparent``), which the instrumentation of Celery writes and reads as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from fastq import signals
from fastq.brokers.sent_time import ready_since
from fastq.version import __version__

SYSTEM = "fastq"
# What `after_task_publish`, `task_prerun` and their like connect by, so that two calls connect once.
UID = "fastq.contrib.opentelemetry"


class Instrumentation:
    """Traces what this process sends and runs, between `start` and `stop`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        # By task id. What runs, with the token of its context.
        self._running: dict[str, tuple[Span, Token[context.Context]]] = {}

    def start(self) -> None:
        """Connect to the signals."""
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False, dispatch_uid=UID)

    def stop(self) -> None:
        """Leave them."""
        for signal, _ in self._receivers():
            signal.disconnect(dispatch_uid=UID)

    def _receivers(self) -> tuple[tuple[signals.Signal, Any], ...]:
        return (
            (signals.before_task_publish, self._publishing),
            (signals.task_prerun, self._started),
            (signals.task_failure, self._failed),
            (signals.task_retry, self._retried),
            (signals.task_postrun, self._ended),
        )

    def _publishing(self, sender: str, headers: dict[str, Any], **named: Any) -> None:
        """Write the context of the sender's span into *headers*."""
        attributes = {
            "messaging.system": SYSTEM,
            "messaging.operation.type": "send",
            "messaging.destination.name": named.get("routing_key") or named.get("exchange") or "",
            "messaging.message.id": headers.get("id", ""),
            "fastq.task.name": sender,
        }
        span = self._tracer.start_span(f"send {sender}", kind=SpanKind.PRODUCER, attributes=attributes)
        headers.setdefault("timestamp_in_ms", int(time.time() * 1000))
        propagate.inject(headers, trace.set_span_in_context(span))
        span.end()

    def _started(self, task_id: str, task: Any, **named: Any) -> None:
        """Begin the span of a run, below that of its wait."""
        message = task.request.message
        sent = propagate.extract(_text_headers({} if message is None else message.headers))
        attributes = {
            "messaging.system": SYSTEM,
            "messaging.message.id": task_id,
            "messaging.destination.name": "" if message is None else message.queue,
            "fastq.task.name": task.name,
            "fastq.task.retries": task.request.retries,
        }
        sender = trace.get_current_span(sent).get_span_context()
        links = [Link(sender)] if sender.is_valid else []
        since = None if message is None else ready_since(message)
        if since is not None:
            now = time.time_ns()
            waited = self._tracer.start_span(
                f"wait {task.name}", sent, attributes=attributes, start_time=min(int(since * 1e9), now)
            )
            waited.end(now)
            sent = trace.set_span_in_context(waited, sent)
        attributes["messaging.operation.type"] = "process"
        span = self._tracer.start_span(
            f"run {task.name}", sent, kind=SpanKind.CONSUMER, attributes=attributes, links=links
        )
        self._running[task_id] = span, context.attach(trace.set_span_in_context(span, sent))

    def _failed(self, task_id: str, exception: BaseException, **named: Any) -> None:
        if (running := self._running.get(task_id)) is not None:
            running[0].record_exception(exception)
            running[0].set_status(Status(StatusCode.ERROR, f"{type(exception).__name__}: {exception}"))

    def _retried(self, request: Any, reason: BaseException, **named: Any) -> None:
        if (running := self._running.get(request.id)) is not None:
            running[0].add_event("retry", {"reason": str(reason)})

    def _ended(self, task_id: str, state: str | None = None, **named: Any) -> None:
        if (running := self._running.pop(task_id, None)) is not None:
            span, token = running
            span.set_attribute("fastq.task.state", state or "")
            context.detach(token)
            span.end()


def _text_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if isinstance(value, str)}


_instrumentation: Instrumentation | None = None


def instrument(tracer_provider: Any = None) -> Instrumentation:
    """Trace what this process sends and runs; call it once, in clients and where workers import tasks.

    *tracer_provider* is OpenTelemetry's global one by default. An exporter that has a thread must be set up
    in each child of a prefork pool: in a receiver of ``worker_process_init``.
    """
    global _instrumentation
    if _instrumentation is None:
        tracer = trace.get_tracer("fastq", __version__, tracer_provider)
        _instrumentation = Instrumentation(tracer)
        _instrumentation.start()
    return _instrumentation


def uninstrument() -> None:
    """Trace no more."""
    global _instrumentation
    if _instrumentation is not None:
        _instrumentation.stop()
        _instrumentation = None
