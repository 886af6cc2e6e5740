"""The examples of the documentation do what it says, with a worker beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from worker_process import REPOSITORY, Project, WorkerProcess


@pytest.mark.parametrize("name", ["results.md", "testing.md", "workflows.md"])
def test_examples_show_what_happens(name: str, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / name).read_text()
    project = Project(tmp_path)
    # The first block is the tasks.py of the page.
    (tasks,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[:1]
    project.write("tasks.py", tasks)
    # To doctest the end of a block would be output.
    project.write(name, re.sub(r"^```.*$", "", page, flags=re.MULTILINE))
    with WorkerProcess(project, "-A", "tasks", "-P", "threads", "-c", "2") as worker:
        worker.wait_until_ready()
        done = subprocess.run(
            [sys.executable, "-m", "doctest", name],
            cwd=project.folder,
            env=project.env | {"PYTHONPATH": f"{project.folder}:{REPOSITORY}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stdout + done.stderr
