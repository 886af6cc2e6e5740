"""Several brokers, of which one is used at a time: the URLs of ``broker_url`` and the order of their use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from fastq.exceptions import ImproperlyConfigured, nearest_name

# Called with all URLs; yields the next one to try, without end.
Strategy: TypeAlias = Callable[[list[str]], Iterable[str]]
NAMES = ("round-robin", "shuffle")


def split_urls(url: str) -> list[str]:
    """The URLs that are joined by ``;``. One without a scheme has that of the first, if it has one."""
    urls = [each for each in url.split(";") if each] or [url]
    scheme, mark, _ = urls[0].partition("://")
    return [each if "://" in each or not mark else f"{scheme}://{each}" for each in urls]


def in_order(urls: list[str], strategy: str | Strategy | None) -> Iterator[str]:
    """The first of *urls*, and after it without end the one to try next, by ``broker_failover_strategy``."""
    if strategy is not None and not callable(strategy) and strategy not in NAMES:
        raise ImproperlyConfigured(
            f"broker_failover_strategy is {strategy!r}{nearest_name(strategy, NAMES)}: "
            f"use {' or '.join(map(repr, NAMES))}, or a function"
        )
    return _ordered(urls, strategy)


def _ordered(urls: list[str], strategy: str | Strategy | None) -> Iterator[str]:
    if callable(strategy):
        while True:
            yield from strategy(urls)
    yield urls[0]
    turn = urls[1:] + urls[:1]
    while True:
        if strategy == "shuffle":
            from random import shuffle

            shuffle(turn)
        yield from turn
