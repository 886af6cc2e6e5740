from collections import deque
from collections.abc import Iterable, Sequence

from fastq._core.amqp import Content
from fastq._core.message import Delivery, Message, Outcome

# As fastq.brokers.rabbitmq.copies names the parts.
Copy = tuple[str, str, int, int, float]

def take_plain(
    contents: deque[Content],
    queues: dict[str, str],
    base: int,
    held: dict[int, Delivery],
    arrived: deque[Delivery],
) -> Content | None: ...
def sort_out(
    outcomes: Iterable[Outcome],
    held: dict[int, Delivery],
    marks: dict[int, tuple[int, float]],
    settled: deque[tuple[float, Copy]],
    now: float,
) -> tuple[list[Delivery], list[Outcome]]: ...
def run_of(message: Message) -> tuple[str, str, int]: ...
def release(
    deliveries: Sequence[Delivery], held: dict[int, Delivery], base: int
) -> tuple[int, list[int]]: ...
