"""What RabbitMQ says when it closes a channel or a connection, and what to do about it."""

from __future__ import annotations

from fastq.exceptions import OperationalError

CONNECTION_FORCED = 320
ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540
# Another attempt may succeed: the node stops, is short of something, failed inside, or a queue of a lost
# connection is still held for it.
PASSING = {CONNECTION_FORCED, RESOURCE_LOCKED, 506, 541}
HINTS = {
    CONNECTION_FORCED: "an operator closed it, or the node stops",
    ACCESS_REFUSED: "check user and password, and the user's permissions for this virtual host",
    NOT_FOUND: "declare it first, or check its name and the virtual host",
    RESOURCE_LOCKED: "another connection holds it for itself alone",
    NOT_ALLOWED: "check that the virtual host exists and that the user may enter it",
}


class _Closed(OperationalError):
    """Closed by RabbitMQ with a code, a text, and the method that it was the answer to ("" for none)."""

    def __init__(self, what: str, code: int, text: str, method: str) -> None:
        self.code = code
        self.text = text
        self.method = method
        self.is_passing = code in PASSING or _is_consumer_timeout(code, text)
        cause = f" (after {method})" if method else ""
        hint = hint_for(code, text, method)
        super().__init__(f"{what}: {code} {text}{cause}{f'; {hint}' if hint else ''}")


class ChannelClosed(_Closed):
    """RabbitMQ closed one channel; the connection and its other channels are well."""

    def __init__(self, number: int, where: str, code: int, text: str, method: str) -> None:
        self.number = number
        super().__init__(f"RabbitMQ at {where} closed channel {number}", code, text, method)


class ConnectionClosed(_Closed):
    """RabbitMQ closed the whole connection."""

    def __init__(self, where: str, code: int, text: str, method: str) -> None:
        super().__init__(f"RabbitMQ at {where} closed the connection", code, text, method)


def hint_for(code: int, text: str, method: str) -> str:
    """What to do about a close, "" where there is nothing to say."""
    if code == PRECONDITION_FAILED:
        if _is_consumer_timeout(code, text):
            return "a message was held longer than the broker's consumer_timeout: raise that in rabbitmq.conf"
        if method.endswith(".declare"):
            return "it exists with other arguments: declare it with the same ones, or delete it first"
    return HINTS.get(code, "")


def _is_consumer_timeout(code: int, text: str) -> bool:
    """Whether a channel was closed because a delivery was not acknowledged in time."""
    return code == PRECONDITION_FAILED and "timed out" in text
