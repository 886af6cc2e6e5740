"""Exceptions: Celery's names and arguments, one root, and what survives a pickle."""

import builtins
import pickle
from datetime import datetime

import celery.exceptions
import kombu.exceptions
import pytest

from fastq import exceptions
from fastq.exceptions import (
    FastQError,
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskPredicate,
    UnknownSetting,
)

ERRORS = [
    value
    for name in exceptions.__all__
    if isinstance(value := getattr(exceptions, name), type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("name", celery.exceptions.__all__)
def test_every_name_of_celery_exists(name):
    assert hasattr(exceptions, name)


@pytest.mark.parametrize("name", celery.exceptions.__all__)
def test_bases_are_those_of_celery(name):
    theirs = getattr(celery.exceptions, name)
    if not isinstance(theirs, type) or name == "CeleryCommandException":  # ours needs no click
        return
    ours = getattr(exceptions, name)
    for base in theirs.__mro__:
        if base.__module__ == "celery.exceptions":
            assert issubclass(ours, getattr(exceptions, base.__name__)), base
        elif base.__module__ == "builtins":
            assert issubclass(ours, base), base


@pytest.mark.parametrize(
    "name", ["OperationalError", "EncodeError", "DecodeError", "SerializationError", "ContentDisallowed"]
)
def test_names_of_kombu_exist(name):
    assert issubclass(getattr(kombu.exceptions, name), Exception)
    assert issubclass(getattr(exceptions, name), FastQError)


@pytest.mark.parametrize("error", ERRORS)
def test_one_root_and_a_docstring(error):
    assert error.__doc__
    if not issubclass(error, Warning):
        assert issubclass(error, FastQError)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("NotRegistered", KeyError),
        ("QueueNotFound", KeyError),
        ("TimeoutError", builtins.TimeoutError),
        ("OperationalError", ConnectionError),
        ("DecodeError", ValueError),
        ("EncodeError", TypeError),
        ("UnknownSetting", LookupError),
        ("SettingNotFound", KeyError),
        ("SettingNotFound", AttributeError),
    ],
)
def test_the_builtin_a_caller_expects_catches_it(name, builtin):
    assert issubclass(getattr(exceptions, name), builtin)


@pytest.mark.parametrize(
    "error",
    [
        *(error("text") for error in ERRORS if not issubclass(error, UnknownSetting)),
        Reject("why", requeue=True),
        Retry("m", exc=ValueError(3), when=10, is_eager=True),
        MaxRetriesExceededError("text", task_args=(1,), task_kwargs={"a": 2}),
        exceptions.BackendStoreError("text", state="SUCCESS", task_id="id"),
        exceptions.CommandError("text", 3),
        UnknownSetting("a", ["b"], "module c"),
        exceptions.SettingNotFound("a", ["b"]),
    ],
    ids=repr,
)
def test_errors_survive_a_pickle(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert repr(copy) == repr(error)
    hidden = {"exc", "excs"}
    assert {k: v for k, v in vars(copy).items() if k not in hidden} == {
        k: v for k, v in vars(error).items() if k not in hidden
    }


def test_the_celery_names_are_the_same_classes():
    assert exceptions.CeleryError is FastQError
    assert exceptions.CeleryWarning is exceptions.FastQWarning
    assert exceptions.CeleryCommandException is exceptions.CommandError


def test_predicates_are_caught_together():
    assert issubclass(Ignore, TaskPredicate)
    assert issubclass(Reject, TaskPredicate)
    assert issubclass(Retry, TaskPredicate)


def test_reject_is_told_as_in_celery():
    assert repr(Reject("bad", requeue=True)) == repr(celery.exceptions.Reject("bad", requeue=True))
    assert (Reject().reason, Reject().requeue) == (None, False)


@pytest.mark.parametrize(
    "arguments",
    [
        {"message": "m", "when": 3},
        {"exc": KeyError("k"), "when": 3},
        {"exc": KeyError("k"), "when": datetime(2026, 1, 2, 3, 4)},
        {"exc": "text", "when": 1.5},
        {"when": 3},
    ],
)
def test_retry_is_told_as_in_celery(arguments):
    ours, theirs = Retry(**arguments), celery.exceptions.Retry(**arguments)
    assert str(ours) == str(theirs)
    assert ours.humanize() == theirs.humanize()
    assert (ours.message, repr(ours.exc), ours.excs) == (theirs.message, repr(theirs.exc), theirs.excs)


def test_retry_bears_an_exception_whose_repr_raises():
    class Bad(Exception):
        def __repr__(self):
            raise ValueError

    assert "Bad" in str(Retry(exc=Bad(), when=1))


def test_soft_time_limit_is_told_as_in_celery():
    assert str(SoftTimeLimitExceeded(3)) == str(celery.exceptions.SoftTimeLimitExceeded(3))


def test_not_registered_keeps_the_name_and_says_what_to_do():
    error = NotRegistered("proj.add")
    assert error.args == ("proj.add",)
    assert "'proj.add'" in str(error) and "import" in str(error)


def test_unknown_setting_names_the_nearest_and_the_source():
    error = UnknownSetting("task_serialiser", ["task_serializer", "timezone"], "module proj.conf")
    assert isinstance(error, ImproperlyConfigured)
    assert error.name == "task_serialiser"
    assert str(error) == (
        "module proj.conf: no setting is named 'task_serialiser': correct or remove it"
        "; did you mean 'task_serializer'?"
    )
    assert "did you mean" not in str(UnknownSetting("zzz", ["timezone"]))


def test_command_error_has_what_click_asks_for(capsys):
    error = exceptions.CeleryCommandException("no such thing", 64)
    error.show()
    assert error.exit_code == 64
    assert error.format_message() == "no such thing"
    assert capsys.readouterr().err == "Error: no such thing\n"


def test_reraise_sets_the_traceback():
    try:
        raise ValueError("first")
    except ValueError as exc:
        error, traceback = exc, exc.__traceback__
    with pytest.raises(ValueError) as caught:
        exceptions.reraise(ValueError, error.with_traceback(None), traceback)
    assert caught.value is error
    assert traceback in _chain(caught.value.__traceback__)


def _chain(traceback):
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next
