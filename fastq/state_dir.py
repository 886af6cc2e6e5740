"""Where fastq keeps its files: the state directory of the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fastq.exceptions import ImproperlyConfigured


def state_dir() -> Path:
    """The directory of fastq's own files, made if it is missing, readable by its owner alone.

    ``FASTQ_HOME`` names it; else it is ``fastq`` in ``XDG_STATE_HOME``, else
    ``~/.local/state/fastq``, on macOS ``~/Library/Application Support/fastq``. Raises
    `ImproperlyConfigured` if it can't be made.
    """
    path = _chosen()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ImproperlyConfigured(
            f"the state directory {path} can't be made ({exc.strerror}): "
            "set FASTQ_HOME to a directory that this user may write to"
        ) from exc
    return path


def _chosen() -> Path:
    if home := os.environ.get("FASTQ_HOME"):
        return Path(home).expanduser().absolute()
    # The XDG specification has relative paths ignored.
    if (state := os.environ.get("XDG_STATE_HOME")) and os.path.isabs(state):
        return Path(state, "fastq")
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/fastq").expanduser()
    return Path("~/.local/state/fastq").expanduser()
