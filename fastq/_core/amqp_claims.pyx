"""What a worker's consumer on RabbitMQ does with every message, for many in one call.

A consumer keeps what RabbitMQ waits to hear of in a dict: deliveries by their tags, oldest
first. A tag is *base*, which counts connections, plus the delivery tag of AMQP.
"""

from libc.stdint cimport uint64_t

from fastq._core.amqp cimport Content
from fastq._core.message cimport ACK, Delivery, Message, Outcome


def take_plain(contents, dict queues, object base, dict held, arrived) -> Content:
    """Move from the deque *contents* to *held* and to the deque *arrived* what may run as it came.

    *queues* are those consumed, by consumer tag. Returns the first content that needs a closer
    look, taken off *contents*: one that was redelivered, that bears headers of fastq's own or
    can't be decoded, or that came through an exchange. None: there are no more.
    """
    cdef Content content
    cdef Delivery delivery
    take, put = contents.popleft, arrived.append
    while contents:
        content = take()
        if content.redelivered or content.has_own_headers or content.exchange or content.error is not None:
            return content
        delivery = content.delivery(queues.get(content.consumer_tag, ""))
        if delivery.message is None:
            return content
        delivery.tag = base + content.delivery_tag
        held[delivery.tag] = delivery
        put(delivery)
    return None


def sort_out(outcomes, dict held, dict marks, settled, double now) -> tuple:
    """The deliveries that need no more than an acknowledgement, and all the other outcomes.

    For each of the first, *settled* gets *now* and what a copy of it would be known by. They bear
    no *marks*, by tag: headers of fastq's own.
    """
    cdef list plain = [], others = []
    cdef Outcome outcome
    cdef Delivery delivery
    note = settled.append
    for outcome in outcomes:
        delivery = outcome.delivery
        if (outcome.action != ACK or outcome.follow or delivery.message is None or delivery.tag is None
                or held.get(delivery.tag) is not delivery or delivery.tag in marks):
            others.append(outcome)
            continue
        note((now, (*run_of(delivery.message), 0, 0.0)))
        plain.append(delivery)
    return plain, others


cpdef tuple run_of(Message message):
    """What tells the runs of tasks apart: id, name, and how often it was retried."""
    retries = message.header("retries")
    return message.id, message.task, retries if type(retries) is int else 0


def release(deliveries, dict held, object base) -> tuple:
    """Take *deliveries* out of *held*: the delivery tag up to which all may be acknowledged, and other tags.

    The first is 0 where the oldest that was held still is.
    """
    cdef list others = []
    cdef Delivery delivery
    cdef uint64_t number, oldest = 0, covered = 0
    for delivery in deliveries:
        del held[delivery.tag]
    for tag in held:
        oldest = tag - base
        break
    for delivery in deliveries:
        number = delivery.tag - base
        if oldest and number > oldest:
            others.append(number)
        elif number > covered:
            covered = number
    return covered, others
