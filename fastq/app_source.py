"""How what lies below the application finds the current one; `fastq.app.current` says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

get_app: Callable[[], Any] | None = None
