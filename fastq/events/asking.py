"""What those who watch ask of all workers, without waiting for answers (PROTOCOL.md §7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastq._core.codec import json_dumps
from fastq._core.message import Message
from fastq.topology import Exchange

if TYPE_CHECKING:
    from fastq.app.settings import Settings
    from fastq.brokers.base import Broker


def ask(broker: Broker, conf: Settings, method: str, **arguments: Any) -> None:
    """Have all workers obey the control command *method*. Raises `OperationalError`."""
    request = {
        "method": method,
        "arguments": arguments,
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    pidbox = Exchange(f"{conf.control_exchange}.pidbox", "fanout", durable=False)
    headers = {"expires": 0}
    message = Message("", "", headers, json_dumps(request), queue="", exchange=pidbox.name, routing_key="")
    broker.announce(pidbox, [message])
