"""Frames that no broker should send: none crashes, hangs or leaks; and sound ones leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from amqp_mutations import frames, main
from memory import resident_mb
from servers import skip_or_fail
from stage import forms

from fastq._core.amqp import FrameDecoder
from fastq._core.amqp_encoder import FrameEncoder

PROGRAM = Path(__file__).with_name("amqp_mutations.py")
# MB that a million deliveries may leave behind, malloc's own unrest among it; one byte of each would be 1.
MOST_GROWTH = 0.9


@pytest.mark.parametrize("count", forms(5_000, 100_000))
def test_mutations_are_refused_or_read(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    main(count, seed=20260101)
    told = capsys.readouterr().out
    refused = int(told.partition(": ")[2].split()[0])
    assert 0.5 * count < refused < 0.95 * count, told  # neither all nor none: both ways are taken


@pytest.mark.parametrize("count", forms(150, 100_000, minutes=60))
def test_valgrind_finds_no_bad_access_and_no_leak(count: int) -> None:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        skip_or_fail("no valgrind is installed")
    assert valgrind is not None
    ran = subprocess.run(
        [
            valgrind,
            "--quiet",
            "--undef-value-errors=no",  # CPython itself has some
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
            "--error-exitcode=9",
            "--num-callers=25",
            sys.executable,
            str(PROGRAM),
            str(count),
        ],
        env=os.environ | {"PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-8000:]
    assert ran.stdout.startswith(f"{count} mutations")


def test_a_million_deliveries_leave_nothing_behind() -> None:
    wire, pid = frames()[-1], os.getpid()
    decoder, encoder = FrameDecoder(), FrameEncoder()

    def deliver(batches: int) -> None:
        for _ in range(batches):
            decoder.feed(wire * 100)
            for number, content in enumerate(iter(decoder.next_frame, None)):
                message = content.delivery("celery").message
                if number == 0:
                    encoder.publish_message(1, message)  # with all its headers and properties
                    encoder.ack(1, content.delivery_tag)
            encoder.take()

    deliver(1_000)
    before = resident_mb(pid)
    deliver(10_000)
    assert resident_mb(pid) - before < MOST_GROWTH
