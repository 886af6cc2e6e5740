"""Frames with something changed at random, into a decoder: ``python amqp_mutations.py COUNT [SEED]``.

A program of its own, so that it also runs under valgrind.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference import amqp as reference

from fastq._core.amqp import Content, FrameDecoder
from fastq._core.amqp_encoder import FrameEncoder
from fastq._core.amqp_table import decode_table, encode_table
from fastq._core.message import Message
from fastq.exceptions import RemoteProtocolError

HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "proj.add",
    "id": "0" * 36,
    "eta": None,
    "retries": 0,
    "timelimit": [None, 2.5],
    "stamps": {"a": ["b", {"c": 2**40}]},
    "x-death": [{"count": 1, "queue": "celery", "routing-keys": ["celery"]}],
}
# Types of fields, known and not, and lengths: what hurts most where it does not belong.
BITS = (
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\1",
    b"\xce",
    b"\0",
    b"\xff",
)
KINDS = b"tbBsuIilLfdDSxAFTVZ\0"


def frames() -> list[bytes]:
    """Sound frames, of every shape that a broker sends."""
    encoder = FrameEncoder(4096)
    message = Message("proj.add", "0" * 36, HEADERS, b"[[2, 3], {}, {}]", queue="celery", priority=1)
    found = []
    for write in (
        lambda: encoder.method(
            0,
            "connection.start",
            server_properties={"capabilities": {"x": True}, "v": 1},
            mechanisms=b"PLAIN",
        ),
        lambda: encoder.method(0, "connection.tune", channel_max=2047, frame_max=131072, heartbeat=60),
        lambda: encoder.method(1, "queue.declare-ok", queue="celery", message_count=1),
        lambda: encoder.method(1, "channel.close", reply_code=404, reply_text="NOT_FOUND"),
        lambda: encoder.ack(1, 7, True),
        encoder.heartbeat,
        lambda: encoder.publish_message(1, message),
        lambda: encoder.publish(1, "", "celery", bytes(9000), headers={"x": [HEADERS, HEADERS]}),
        lambda: encoder.publish(
            1, "e", "k", b"", properties={"timestamp": 1, "type": "t", "expiration": "5"}
        ),
    ):
        write()
        found.append(encoder.take())
    deliver = reference.method_frame(1, (60, 60), ["c", 1, False, "", "celery"])
    found.append(deliver + reference.content_frames(1, {"content_type": "x", "headers": HEADERS}, b"body"))
    return found


def mutate(rng: random.Random, wire: bytes) -> bytes:
    """*wire* with one to four places changed; the sizes of its frames are put right again, as a rule."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(wire)), rng.randint(1, 12)
        how = rng.randrange(7)
        if how == 0:
            wire = wire[:at] + wire[at + length :] or b"\0"
        elif how == 1:
            wire = wire[:at] + wire[at : at + length] * 2 + wire[at + length :]
        elif how == 2:
            wire = wire[:at] + rng.randbytes(rng.randint(1, 4)) + wire[at + 1 :]
        elif how == 3:
            wire = wire[:at] + rng.choice(BITS) + wire[at + 4 :]
        elif how == 4:
            wire = wire[:at] + bytes([rng.choice(KINDS)]) + wire[at + 1 :]
        else:
            wire = wire[:at] + bytes([wire[at] ^ (1 << rng.randrange(8))]) + wire[at + 1 :]
    return wire


def resized(wire: bytes) -> bytes:
    """*wire* as one frame of its first one's type and channel, of the right size and end."""
    return (
        wire[:3] + struct.pack(">I", max(len(wire) - 8, 0)) + wire[7:-1] + b"\xce" if len(wire) > 8 else wire
    )


def split_frames(wire: bytes) -> list[bytes]:
    found = []
    while wire:
        size = int.from_bytes(wire[3:7], "big") + 8
        found.append(wire[:size])
        wire = wire[size:]
    return found


def use(frame: Any) -> None:
    """Read all that a reader may."""
    repr(frame)
    if isinstance(frame, Content):
        delivery = frame.delivery("celery")
        if delivery.message is not None:
            delivery.message.to_tuple()
        repr((frame.headers, frame.properties, frame.body))


def main(count: int, seed: int) -> None:
    rng = random.Random(seed)
    sound = [split_frames(wire) for wire in frames()]
    table = encode_table(HEADERS)
    refused = refused_tables = read = 0
    for _ in range(count):
        parts = list(rng.choice(sound))
        victim = rng.randrange(len(parts))
        parts[victim] = mutate(rng, parts[victim])
        if rng.random() < 0.7:
            parts[victim] = resized(parts[victim])
        wire = b"".join(parts)
        try:
            decode_table(mutate(rng, table))  # its bytes end where a tool sees what reads on
        except RemoteProtocolError:
            refused_tables += 1
        decoder = FrameDecoder()
        try:
            while wire:
                cut = rng.randint(1, len(wire))
                decoder.feed(wire[:cut])
                wire = wire[cut:]
                for frame in iter(decoder.next_frame, None):
                    use(frame)
                    read += 1
        except RemoteProtocolError:
            refused += 1
    told = f"{refused} refused, {read} frames read, {refused_tables} tables refused"
    print(f"{count} mutations of seed {seed}: {told}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
