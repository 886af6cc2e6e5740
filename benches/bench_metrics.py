"""What do metrics cost? A drain without them, with them, and with waiting times too, scraped each second."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benches.bench_drain import rate
from benches.harness import Bench
from benches.stores import wait_done

TASKS = 120_000
SCRAPED_EVERY = 1.0  # seconds; Prometheus asks each 15


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """Ask the worker at *port* for its metrics during the block."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPED_EVERY):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()
            except OSError:
                pass  # it has not started yet

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def drains(bench: Bench, pool: str, metrics: bool, stamped: bool = False) -> float:
    """Tasks per second that a worker takes out of Redis."""
    bench.redis.clear()
    url, port = bench.redis.url, free_port()
    ids = bench.fastq.client(url, "in_bulk", bench.count(TASKS), {"task_send_timestamp": stamped})["ids"]
    settings = {"worker_metrics": str(port)} if metrics else {}
    with bench.fastq.worker(url, pool, settings=settings) as worker, scraped(port):
        return rate(wait_done(bench.redis, ids, worker))


def run(bench: Bench) -> None:
    """Measure the pools that are fastest."""
    for pool in ("solo", "prefork"):
        ways = {
            f"{pool}, no metrics": partial(drains, bench, pool, False),
            f"{pool}, metrics": partial(drains, bench, pool, True),
            f"{pool}, metrics with waiting times": partial(drains, bench, pool, True, True),
        }
        bench.compare(f"metrics, {pool}", "tasks/s", ways)
