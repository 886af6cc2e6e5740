"""The SQL that stands in schema.sql and queries.sql."""

from __future__ import annotations

import re
from pathlib import Path

_FOLDER = Path(__file__).parent


def parse_statements(text: str) -> dict[str, str]:
    """The statements of *text* by name; a line ``-- name: x`` stands above each."""
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return {name: statement.strip() for name, statement in zip(parts[1::2], parts[2::2], strict=True)}


SCHEMA = (_FOLDER / "schema.sql").read_text(encoding="utf-8")
SQL = parse_statements((_FOLDER / "queries.sql").read_text(encoding="utf-8"))
