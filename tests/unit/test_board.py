"""The board: each position is started or withdrawn, never both, whoever comes first."""

import os
import threading

import pytest

from fastq._core.board import Board


def test_positions_start_in_order() -> None:
    board = Board(2)
    assert board.start(1, 0, 10.0)
    assert board.start(1, 1, 11.0)
    assert board.next(1) == 2
    assert board.started_at(1) == 11.0
    assert board.next(0) == 0


def test_position_starts_once() -> None:
    board = Board(1)
    assert board.start(0, 0, 1.0)
    assert not board.start(0, 0, 2.0)


def test_withdrawn_positions_do_not_start() -> None:
    board = Board(1)
    board.start(0, 0, 1.0)
    assert board.withdraw(0, 5) == 1
    assert not any(board.start(0, position, 2.0) for position in range(1, 5))
    assert board.start(0, 5, 3.0)


def test_nothing_to_withdraw_is_the_end() -> None:
    board = Board(1)
    board.start(0, 0, 1.0)
    assert board.withdraw(0, 1) == 1
    assert board.next(0) == 1


def test_withdraw_from_fails_when_the_child_has_gone_on() -> None:
    board = Board(1)
    board.start(0, 0, 1.0)
    board.start(0, 1, 2.0)
    assert not board.withdraw_from(0, 1, 9)
    assert board.start(0, 2, 3.0)
    assert board.withdraw_from(0, 3, 9)
    assert not board.start(0, 3, 4.0)


def test_reset_begins_again() -> None:
    board = Board(1)
    board.start(0, 0, 1.0)
    board.reset(0)
    assert board.next(0) == 0
    assert board.started_at(0) == 0.0


@pytest.mark.parametrize("row", [-1, 2])
def test_rows_are_checked(row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of 2"):
        Board(2).next(row)


def test_board_has_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Board(0)


def test_child_and_parent_see_one_board() -> None:
    board = Board(1)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if board.start(0, 0, 7.0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert board.next(0) == 1
    assert board.started_at(0) == 7.0
    assert not board.start(0, 0, 8.0)


def test_boards_of_one_file_are_one(tmp_path) -> None:
    with open(tmp_path / "board", "w+b") as file:
        file.truncate(Board.bytes_for(2))
        ours, theirs = Board(2, file.fileno()), Board(2, file.fileno())
    assert theirs.start(1, 0, 7.0)
    assert (ours.next(0), ours.next(1), ours.started_at(1)) == (0, 1, 7.0)


def test_every_position_goes_to_one_side() -> None:
    """A child that starts as fast as it can and a parent that withdraws now and then share them out."""
    board, count = Board(1), 20_000
    pid_read, pid_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        started = sum(board.start(0, position, 0.0) for position in range(count))
        os.write(pid_write, str(started).encode())
        os._exit(0)
    withdrawn = 0
    while (first := board.next(0)) < count:
        end = min(count, first + 3)
        withdrawn += max(0, end - board.withdraw(0, end))  # negative: the child was faster
    os.waitpid(pid, 0)
    started = int(os.read(pid_read, 100))
    os.close(pid_read)
    os.close(pid_write)
    assert started + withdrawn == count


def test_threads_start_a_position_once() -> None:
    board = Board(1)
    wins: list[bool] = []
    barrier = threading.Barrier(8)

    def race() -> None:
        barrier.wait()
        wins.extend(board.start(0, position, 0.0) for position in range(1000))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wins) <= 1000
    assert board.next(0) == sum(wins)
