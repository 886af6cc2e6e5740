"""The state directory: where it is, how it is made, what is said when it can't be."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from fastq.exceptions import ImproperlyConfigured
from fastq.state_dir import state_dir


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with nothing in it, and no variable that names another place."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FASTQ_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return tmp_path


def test_fastq_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTQ_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_dir() == tmp_path / "own"


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTQ_HOME", "~/own")
    assert state_dir() == tmp_path / "own"


def test_xdg_state_home_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_dir() == tmp_path / "xdg" / "fastq"


def test_a_relative_xdg_state_home_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "xdg")
    monkeypatch.setattr(sys, "platform", "linux")
    assert state_dir() == tmp_path / ".local/state/fastq"


@pytest.mark.parametrize(
    ("platform", "below_home"),
    [("linux", ".local/state/fastq"), ("darwin", "Library/Application Support/fastq")],
)
def test_else_it_lies_where_the_platform_keeps_state(
    platform: str, below_home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert state_dir() == tmp_path / below_home


def test_only_its_owner_may_look_into_it() -> None:
    assert stat.S_IMODE(state_dir().stat().st_mode) == 0o700


def test_one_that_can_not_be_made_names_the_path_and_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("FASTQ_HOME", str(blocked / "below"))
    with pytest.raises(ImproperlyConfigured, match=rf"{blocked}/below.*set FASTQ_HOME"):
        state_dir()
