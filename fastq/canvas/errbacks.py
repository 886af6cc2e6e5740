"""What is called when a task has failed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from fastq.canvas.signature import maybe_signature
from fastq.exceptions import NotRegistered

if TYPE_CHECKING:
    from fastq.app.base import FastQ


def is_called_inline(app: FastQ, errback: Mapping[str, Any]) -> bool:
    """Whether *errback* is called with (request, exception, traceback) in the process where the task failed.

    It is if its task is registered here, is a plain function, and takes more than one argument beside
    those that the errback has already. Any other becomes a message with the id of the task that failed.
    """
    from inspect import getfullargspec  # 10 ms to import, for processes in which a task has failed

    try:
        run = app.tasks[errback["task"]].run
    except NotRegistered:
        return False
    if isinstance(run, MethodType):  # with bind=True, or of a class: it may want to be retried
        return False
    if not errback["immutable"]:
        run = partial(run, *errback["args"], **errback["kwargs"])
    try:
        spec = getfullargspec(run)
    except TypeError:  # its own arguments do not fit
        return False
    return spec.varargs is not None or len(spec.args) > 1


def call_inline(app: FastQ, errback: Any, request: Any, exc: BaseException, traceback: str | None) -> None:
    """Call an *errback* for which `is_called_inline` holds."""
    maybe_signature(errback, app=app)(request, exc, traceback)
