"""The messages and results that real Celery processes wrote, as tests/data/protocol keeps them."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

PROTOCOL_DATA = Path(__file__).parents[1] / "data" / "protocol"


def fixture(name: str) -> Any:
    return json.loads((PROTOCOL_DATA / f"{name}.json").read_text())


def task_fixtures() -> list[str]:
    """The names of all captured task messages that are not signed."""
    return sorted(path.stem for path in PROTOCOL_DATA.glob("redis-task-*.json") if "signed" not in path.stem)


def task_envelopes(name: str) -> list[bytes]:
    return [message["raw"].encode() for message in fixture(name)["messages_in_send_order"]]


def all_envelopes() -> list[bytes]:
    """Every captured envelope, the hand-made ones of the matrix too."""
    envelopes = [raw for name in task_fixtures() for raw in task_envelopes(name)]
    envelopes += [case["raw"].encode() for case in fixture("redis-minimal-envelope-matrix")["cases"]]
    return [*envelopes, json.dumps(fixture("redis-task-v2-signed-auth")["envelope"]).encode()]


def stored_results() -> list[tuple[str, str, bytes]]:
    """Every captured result document, as (fixture, task id, bytes)."""
    documents = []
    for path in sorted(PROTOCOL_DATA.glob("result-redis-*.json")):
        for key, entry in fixture(path.stem).get("stored_keys", {}).items():
            value = entry["value"]
            # Two are described in words instead of kept.
            if isinstance(value, dict):
                value = b64decode(value["__bytes_b64__"])
            elif "(" in value[:1] or value == "done":
                continue
            else:
                value = value.encode()
            documents.append((path.stem, key[-36:], value))
    return documents
