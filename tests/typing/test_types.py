"""mypy --strict sees a task's own argument and result types through delay, apply_async and get."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).with_name("sees_types.py")


def test_mypy_sees_the_types_of_a_task(tmp_path):
    # A mistake that it does not see is an unused "type: ignore", which --strict reports.
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(EXAMPLE)]
    done = subprocess.run(command, cwd=EXAMPLE.parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
