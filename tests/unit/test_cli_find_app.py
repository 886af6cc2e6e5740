"""Where the app comes from, and what is said when it can't be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastq.app.base import FastQ
from fastq.cli.app_name import NoAppFound, name_from_folder, read_app_name, read_plain_app_name
from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.find_app import find_app, load_app

APP = "from fastq.app.base import FastQ\n{name} = FastQ({main!r}, set_as_current=False)\n"


class Project:
    """A folder of modules, which is the current folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def write_app(self, path: str, name: str = "app", main: str = "proj") -> None:
        self.write(path, APP.format(name=name, main=main))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("FASTQ_APP", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield Project(tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["mod", "mod:app", "mod.app", "mod.py", "./mod.py"])
def test_a_module_is_named_in_any_usual_way(project, name):
    project.write_app("mod.py")
    assert isinstance(load_app(name), FastQ)


@pytest.mark.parametrize("attribute", ["app", "celery", "queue"])
def test_the_attribute_may_have_any_name(project, attribute):
    project.write_app("mod.py", name=attribute, main=attribute)
    assert load_app("mod").main == attribute


@pytest.mark.parametrize("last", ["celery", "fastq", "app", "tasks"])
def test_a_package_keeps_its_app_in_a_submodule(project, last):
    project.write("pkg/__init__.py", "")
    project.write_app(f"pkg/{last}.py")
    assert load_app("pkg").main == "proj"


def test_the_environment_names_the_app(project, monkeypatch):
    project.write_app("one.py", main="one")
    project.write_app("two.py", main="two")
    monkeypatch.setenv("FASTQ_APP", "two:app")
    assert find_app(None).main == "two"


def test_pyproject_names_the_app_from_a_folder_below(project, monkeypatch):
    project.write("pyproject.toml", '[tool.fastq]\napp = "one"\n')
    project.write_app("one.py", main="one")
    (project.folder / "below").mkdir()
    monkeypatch.chdir(project.folder / "below")
    assert find_app(None).main == "one"


def test_the_only_module_that_makes_an_app_is_found(project):
    project.write_app("work.py", main="found")
    project.write("client.py", "from work import app\nraise RuntimeError('never imported')\n")
    project.write("test_work.py", APP.format(name="app", main="test"))
    assert find_app(None).main == "found"


def test_several_apps_are_listed(project):
    project.write_app("one.py")
    project.write_app("two.py")
    with pytest.raises(NoAppFound, match="choose one with -A: one, two"):
        name_from_folder()


def test_an_empty_folder_says_how_to_name_an_app(project):
    with pytest.raises(NoAppFound, match="name one with -A"):
        find_app(None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("taks", "no module is named 'taks'; did you mean 'tasks'?"),
        ("tasks:ap", "module 'tasks' has no 'ap'; did you mean 'app'?"),
        ("tasks:number", "tasks:number is a int, not a FastQ app"),
        ("quite.another", "no module is named 'quite.another' in "),
        ("empty", "module 'empty' holds no app: make one with `app = FastQ('empty')`"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(project, name, said):
    project.write_app("tasks.py")
    project.write("tasks.py", APP.format(name="app", main="x") + "number = 3\n")
    project.write("empty.py", "")
    with pytest.raises(CommandError) as caught:
        load_app(name)
    assert said in str(caught.value)
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n    pass\n", "broken.py:2: SyntaxError: "),
        ("\n\nimport requestz\n", "broken.py:3: ModuleNotFoundError: No module named 'requestz'"),
        ("def f():\n    return 1 / 0\n\nf()\n", "broken.py:2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "broken.py:1: SystemExit: 3"),
        ("import json\njson.loads('{')\n", "broken.py:2: JSONDecodeError: "),
        ("from fastq.app.base import FastQ\nFastQ('x', no_such_setting=1)\n", "broken.py:2: "),
    ],
)
def test_an_error_in_the_users_code_names_the_users_line(project, text, said):
    project.write("broken.py", text)
    with pytest.raises(CommandError) as caught:
        load_app("broken")
    assert str(caught.value).startswith(said)
    assert caught.value.exit_code == ExitCode.CONFIG
    assert caught.value.__cause__ is not None


def test_a_celery_app_is_recognized(project):
    project.write("mine.py", "from celery import Celery\napp = Celery('mine')\n")
    with pytest.raises(CommandError, match="change its import to `from fastq import Celery`"):
        find_app(None)
    pytest.importorskip("celery")
    with pytest.raises(CommandError, match="change its import to `from fastq import Celery`"):
        load_app("mine")


TOML = """
[tool.other]
app = "no"
[tool.fastq]  # ours
# app = "neither"
app = "proj.main:app"
[build-system]
app = "no"
"""


@pytest.mark.parametrize("read", [read_plain_app_name, lambda text: read_app_name(text, "pyproject.toml")])
def test_pyproject_is_read_with_and_without_tomllib(read):
    assert read(TOML) == "proj.main:app"
    assert read("[project]\nname = 'x'\n") is None
    assert read("[tool.fastq]\n") is None
    assert read("[tool.fastq]\napp = 'single'\n") == "single"


def test_bad_toml_is_an_error_of_configuration():
    pytest.importorskip("tomllib")
    for text in ("[tool.fastq\n", "[tool.fastq]\napp = 3\n"):
        with pytest.raises(CommandError) as caught:
            read_app_name(text, "pyproject.toml")
        assert caught.value.exit_code == ExitCode.CONFIG
        assert str(caught.value).startswith("pyproject.toml: ")
