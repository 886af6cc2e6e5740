"""Redis' protocol: any split of the bytes gives the same replies, and what is packed reads back."""

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from fastq._core.resp import NO_REPLY, Packer, Replies, pack, pack_many

values = st.one_of(
    st.none().map(lambda _: b"_\r\n"),
    st.booleans().map(lambda b: b"#t\r\n" if b else b"#f\r\n"),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b":%d\r\n" % n),
    st.binary().map(lambda text: b"$%d\r\n%s\r\n" % (len(text), text)),
    st.just(b"+OK\r\n"),
    st.just(b"$-1\r\n"),
    st.just(b"*-1\r\n"),
)
arrays = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4).map(lambda v: b"*%d\r\n%s" % (len(v), b"".join(v)))
)
pushes = st.lists(arrays, min_size=1, max_size=3).map(
    lambda v: b">%d\r\n$10\r\ninvalidate\r\n%s" % (len(v) + 1, b"".join(v))
)
arguments = st.one_of(st.binary(), st.text(), st.integers(), st.floats(allow_nan=False))


def read(replies: Replies) -> list[object]:
    return list(iter(replies.next_reply, NO_REPLY))


@given(st.lists(st.one_of(arrays, pushes)), st.data())
def test_replies_survive_any_split(parts: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(parts)
    whole, split = Replies(), Replies()
    whole.feed(wire)
    expected, got = read(whole), []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        split.feed(wire[:cut])
        got += read(split)
        wire = wire[cut:]
    assert got == expected
    assert split.pushes == whole.pushes
    assert len(got) + len(split.pushes) == len(parts)


@given(st.lists(st.lists(arguments, min_size=1), max_size=5))
def test_commands_are_packed_as_hiredis_packs_them(commands: list[list[bytes | str | int | float]]) -> None:
    assert pack_many(commands) == b"".join(hiredis.pack_command(tuple(c)) for c in commands)


@given(st.binary(), st.lists(st.binary(), max_size=30))
def test_a_variadic_push_is_one_command(key: bytes, items: list[bytes]) -> None:
    packer = Packer()
    packer.push(b"LPUSH", key, items)
    assert packer.take() == pack(b"LPUSH", key, *items)
    assert len(packer) == 0
