"""Messages as the Redis commands that publish them, in few writes."""

from fastq._core.message cimport Message
from fastq._core.resp cimport Packer

cdef enum:
    # One LPUSH blocks the server while it is read: a thousand messages take it under a millisecond.
    MESSAGES_PER_PUSH = 1000
    BYTES_PER_WRITE = 1048576


def pack_publishes(messages, destination) -> list:
    """*messages* as writes: triples (bytes to send, replies they bring, replies that must be no errors).

    *destination* gives of (queue, priority) the ready list, the schedule and the step, all
    bytes. Messages keep their order within each list.
    """
    cdef Message message
    cdef dict waiting = {}  # ready list: [bytes in all, envelopes]
    cdef list batch, writes = []
    cdef bytes envelope
    cdef Py_ssize_t pushes = 0
    cdef Packer packer = Packer()
    for message in messages:
        ready, delayed, step = destination(message.queue, message.priority)
        envelope = message.envelope()
        if message.due is not None:
            packer.command(b"ZADD", delayed, float(message.due), step + b":" + envelope)
            pushes += 1
        else:
            batch = waiting.get(ready)
            if batch is None:
                waiting[ready] = batch = [0, []]
            batch[0] += len(envelope)
            (<list> batch[1]).append(envelope)
            if len(<list> batch[1]) >= MESSAGES_PER_PUSH or batch[0] >= BYTES_PER_WRITE:
                packer.push(b"LPUSH", ready, waiting.pop(ready)[1])
                pushes += 1
        if packer.used >= BYTES_PER_WRITE:
            writes.append((packer.take(), pushes, pushes))
            pushes = 0
    for ready, batch in waiting.items():
        packer.push(b"LPUSH", ready, batch[1])
        pushes += 1
    if pushes:
        writes.append((packer.take(), pushes, pushes))
    return writes
