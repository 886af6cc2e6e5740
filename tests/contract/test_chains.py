"""The contract of long chains: how a backend keeps the steps that are still to come."""

from __future__ import annotations

import time

import pytest
from harness import Harness

from fastq._core.message import new_id
from fastq.backends.base import Backend

BLOCKS = [b"first", b"second \x00\xff", b"third"]


@pytest.fixture
def backend(harness: Harness) -> Backend:
    backend = harness.open_backend()
    if not backend.keeps_chains:
        pytest.skip("it keeps no chains")
    return backend


def test_blocks_are_read_one_after_the_other(backend: Backend, harness: Harness) -> None:
    chain = new_id()
    backend.save_chain(chain, BLOCKS, 60)
    other = harness.open_backend()
    assert [other.chain_block(chain, index, 60) for index in (0, 0, 1, 2, 2)] == [
        BLOCKS[index] for index in (0, 0, 1, 2, 2)
    ]


def test_a_block_that_was_left_behind_is_gone(backend: Backend) -> None:
    chain = new_id()
    backend.save_chain(chain, BLOCKS, 60)
    assert backend.chain_block(chain, 2, 60) == BLOCKS[2]
    assert backend.chain_block(chain, 1, 60) is None
    assert backend.chain_block(chain, 3, 60) is None
    assert backend.chain_block(new_id(), 0, 60) is None


def test_saving_again_is_harmless(backend: Backend) -> None:
    chain = new_id()
    for _ in range(2):
        backend.save_chain(chain, BLOCKS, 60)
    assert backend.chain_block(chain, 0, 60) == BLOCKS[0]


def test_what_is_read_lasts_from_then_on(backend: Backend) -> None:
    kept, left = new_id(), new_id()
    for chain in (kept, left):
        backend.save_chain(chain, BLOCKS, 0.3)
    assert backend.chain_block(kept, 0, 60) == BLOCKS[0]
    time.sleep(0.4)
    backend.cleanup()
    assert backend.chain_block(kept, 1, 60) == BLOCKS[1]
    assert backend.chain_block(left, 0, 60) is None
