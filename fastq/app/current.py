"""The current application and the current task. Only what stands above the app layer imports this module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastq import app_source
from fastq._core.request import current_request

if TYPE_CHECKING:
    from fastq.app.base import FastQ

# The app that was made or chosen last; None before there is one.
_current: FastQ | None = None
_default_factory: Callable[[], FastQ] | None = None
# What @shared_task asked of every app that there is or will be.
_shared: list[Callable[[FastQ], Any]] = []
_apps: list[FastQ] = []


def set_current_app(app: FastQ | None) -> None:
    """Make *app* the one that `get_current_app` gives."""
    global _current
    _current = app


def set_default_factory(factory: Callable[[], FastQ]) -> None:
    """Say how to make an app for a program that defined none."""
    global _default_factory
    _default_factory = factory


def get_current_app() -> FastQ:
    """The app in use: the last one made, or a default one."""
    if _current is None:
        assert _default_factory is not None
        set_current_app(_default_factory())
    assert _current is not None
    return _current


app_source.get_app = get_current_app


def app_or_default(app: FastQ | None = None) -> FastQ:
    """*app*, or the current one."""
    return get_current_app() if app is None else app


def add_shared(define: Callable[[FastQ], Any]) -> None:
    """Call *define* with every app, those to come included."""
    _shared.append(define)
    for app in list(_apps):
        define(app)


def add_app(app: FastQ) -> None:
    """Define every shared task on the new *app*."""
    _apps.append(app)
    for define in _shared:
        define(app)


def remove_app(app: FastQ) -> None:
    """Forget a closed *app*."""
    global _current
    if app in _apps:
        _apps.remove(app)
    if _current is app:
        _current = None


class Proxy:
    """Has every attribute of what *get* gives now: Celery's API has names for the current app and task."""

    __slots__ = ("_get",)

    def __init__(self, get: Callable[[], Any]) -> None:
        object.__setattr__(self, "_get", get)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_get")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_get")(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_get")()(*args, **kwargs)

    def __bool__(self) -> bool:
        return object.__getattribute__(self, "_get")() is not None

    def __eq__(self, other: object) -> bool:
        return bool(object.__getattribute__(self, "_get")() == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_get")())

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_get")())


def _running_task() -> Any:
    request = current_request()
    return None if request is None else request.task_object


current_app = Proxy(get_current_app)
current_task = Proxy(_running_task)
