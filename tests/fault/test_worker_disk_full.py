"""A worker on SQLite whose disk fills up: it waits for room, and goes on where it was."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stage import POOLS, Stage

DISK_BYTES = 64 << 20  # far more than the tasks of a test take


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a disk to fill")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until the disk has no byte left."""
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


@pytest.mark.parametrize("pool", POOLS)
def test_a_disk_that_fills_up_under_load(make_stage: Callable[..., Stage], disk: Path, pool: str) -> None:
    stage = make_stage(f"sqlite:///{disk / 'fault.sqlite3'}", pool)
    worker = stage.start_worker().wait_until_ready()
    with stage.load():
        time.sleep(0.3)
        fill(disk / "ballast")
        time.sleep(0.7)
        (disk / "ballast").unlink()
        ended = len(stage.ids("end"))
        stage.wait_for(lambda _: len(stage.ids("end")) > ended + 100, "tasks after there is room again")
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead and not verdict.excused, f"{verdict}\n{stage.logs()}"
    assert stage.missing_results() == set()
    assert worker.is_alive() and worker.stop() == 0
    assert "Traceback" not in stage.logs()
