"""Tasks that every app has, under Celery's names: those that workflows are made of among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastq._core.codec import json_loads
from fastq.app.periodic import START
from fastq.canvas.maps import chunks
from fastq.canvas.primitives import chain, chord, group
from fastq.canvas.rest import CHAIN_REST, KEPT_SECONDS
from fastq.canvas.signature import maybe_signature
from fastq.exceptions import FastQError, OperationalError

if TYPE_CHECKING:
    from fastq.app.base import FastQ

# Until the next try to read a block of a chain, when the backend was away.
REST_RETRY_SECONDS = 5.0


def define_builtins(app: FastQ) -> None:
    """Register the built-in tasks of *app*."""

    @app.task(name="celery.accumulate")
    def accumulate(*args: Any, index: int | None = None, **kwargs: Any) -> Any:
        """The arguments, or the one at *index*: the body of a chord whose value is that of its header."""
        return args if index is None else args[index]

    @app.task(name="celery.map")
    def xmap(task: Any, it: Any) -> list[Any]:
        """Call a task for every item."""
        function = maybe_signature(task, app=app).type
        return [function(item) for item in it]

    @app.task(name="celery.starmap")
    def xstarmap(task: Any, it: Any) -> list[Any]:
        """Call a task for every item, which holds its arguments."""
        function = maybe_signature(task, app=app).type
        return [function(*item) for item in it]

    @app.task(name="celery.chunks")
    def apply_chunks(task: Any, it: Any, n: int) -> Any:
        """Send a group of tasks, each for *n* items."""
        return chunks.apply_chunks(task, it, n, app=app)

    @app.task(name="celery.backend_cleanup")
    def backend_cleanup() -> None:
        """Delete the results that have expired, where the backend does not do so itself."""
        if app.backend is not None:
            app.backend.cleanup()

    @app.task(name="celery.group")
    def send_group(
        tasks: Any, result: Any, group_id: str, partial_args: Any, add_to_parent: bool = True
    ) -> Any:
        """Send a group. Clients of long ago have sent it so."""
        members = [maybe_signature(task, app=app) for task in tasks]
        return group(members, app=app).apply_async(
            partial_args, task_id=group_id, add_to_parent=add_to_parent
        )

    @app.task(name="celery.chord")
    def send_chord(header: Any, body: Any, partial_args: Any = (), **kwargs: Any) -> Any:
        """Send a chord. Clients of long ago have sent it so."""
        tasks = header["kwargs"]["tasks"] if isinstance(header, Mapping) else header
        return chord(tasks, body, app=app).apply_async(partial_args)

    @app.task(bind=True, name="celery.chord_unlock", max_retries=None, ignore_result=True)
    def chord_unlock(
        self: Any,
        /,
        group_id: str,
        callback: Any,
        interval: float | None = None,
        max_retries: int | None = None,
        result: Any = (),
        **kwargs: Any,
    ) -> None:
        """Look whether the header of a chord has ended, and join it or look again later."""
        from fastq.canvas.unlock import unlock_chord  # for workers alone

        unlock_chord(app, self, group_id, callback, interval, max_retries, result)

    @app.task(bind=True, name=CHAIN_REST, max_retries=None, default_retry_delay=REST_RETRY_SECONDS)
    def chain_rest(self: Any, *args: Any) -> Any:
        """Let the next block of a long chain run in place of this task, with the result before it."""
        *given, chain_id, number = args
        backend = app.backend
        try:
            block = None if backend is None else backend.chain_block(chain_id, number, KEPT_SECONDS)
        except OperationalError as exc:
            raise self.retry(exc=exc)
        if block is None:
            raise FastQError(f"block {number} of the chain {chain_id} is gone: its steps can't run")
        rest = chain([*json_loads(block)], app=app, args=given)
        return self.replace(rest)

    @app.task(bind=True, name=START)
    def start(self: Any, workflow: Any) -> Any:
        """Let *workflow* run in place of this task: what a schedule sends for one."""
        return self.replace(maybe_signature(workflow, app=app))

    @app.task(name="celery.chain")
    def send_chain(*args: Any, **kwargs: Any) -> None:
        """Refuse to run: a chain is no task, its steps are."""
        raise NotImplementedError("celery.chain is no task: its steps are")
