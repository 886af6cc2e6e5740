"""Routing as AMQP 0-9-1 §3.1.3 words it, with no thought of speed."""

from collections.abc import Mapping, Sequence
from typing import Any


def words(key: str) -> list[str]:
    return key.split(".") if key else []


def topic_matches(pattern: str, routing_key: str) -> bool:
    return _matches(words(pattern), words(routing_key))


def _matches(pattern: Sequence[str], key: Sequence[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(_matches(pattern[1:], key[taken:]) for taken in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and _matches(pattern[1:], key[1:])


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    match = arguments.get("x-match", "all")
    checks = [
        name in headers and (value is None or (type(headers[name]) is type(value) and headers[name] == value))
        for name, value in arguments.items()
        if name != "x-match" and (match.endswith("-with-x") or not name.startswith("x-"))
    ]
    return any(checks) if match.startswith("any") else all(checks)


class Bindings:
    """A list of bindings, asked one after another."""

    def __init__(self, exchange_type: str) -> None:
        self.exchange_type = exchange_type
        self.bound: list[tuple[str, str, dict[str, Any]]] = []

    def bind(self, queue: str, pattern: str, arguments: dict[str, Any]) -> None:
        if self._find(queue, pattern, arguments) is None:
            self.bound.append((queue, pattern, arguments))

    def unbind(self, queue: str, pattern: str, arguments: dict[str, Any]) -> bool:
        found = self._find(queue, pattern, arguments)
        if found is not None:
            self.bound.remove(found)
        return found is not None

    def route(self, routing_key: str, headers: dict[str, Any]) -> list[str]:
        queues: list[str] = []
        for queue, pattern, arguments in self.bound:
            if queue not in queues and self._admits(pattern, arguments, routing_key, headers):
                queues.append(queue)
        return queues

    def _admits(
        self, pattern: str, arguments: dict[str, Any], routing_key: str, headers: dict[str, Any]
    ) -> bool:
        match self.exchange_type:
            case "direct":
                return pattern == routing_key
            case "topic":
                return topic_matches(pattern, routing_key)
            case "headers":
                return headers_match(arguments, headers)
        return True

    def _find(
        self, queue: str, pattern: str, arguments: dict[str, Any]
    ) -> tuple[str, str, dict[str, Any]] | None:
        for binding in self.bound:
            same_way = binding[2] == arguments if self.exchange_type == "headers" else binding[1] == pattern
            if binding[0] == queue and same_way:
                return binding
        return None
