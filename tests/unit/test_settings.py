"""Settings: what is known, which source wins, what is refused, and what is shown."""

import ast
import re
import sys
import types
from datetime import timedelta, timezone
from pathlib import Path

import celery.app.defaults as celery_defaults
import pytest

import fastq
from fastq.app.masking import mask, mask_url
from fastq.app.settings import SETTINGS, Settings
from fastq.app.stores import broker_url
from fastq.backends.base import BackendOptions
from fastq.backends.memory import MemoryBackend
from fastq.backends.schemes import open_backend
from fastq.exceptions import ImproperlyConfigured, UnknownSetting
from fastq.worker.checks import unused_settings

TABLE = {setting.name: setting for setting in SETTINGS}

# Where a default differs from Celery's, and why.
DIFFERENT_DEFAULTS = {
    "task_acks_late": True,  # at least once (D2)
    "worker_prefetch_multiplier": "auto",  # the window adapts (D11)
    "result_expires": 86400.0,  # the same day; durations are seconds here
    "task_publish_retry_policy": None,  # tried again until task_publish_deadline, with growing pauses
    "beat_scheduler": None,  # the one that any number of beats share
    "broker_connection_max_retries": None,  # a worker waits for its broker however long it is away
}
VARIABLES = [
    f"{prefix}_{name}"
    for prefix in ("FASTQ", "CELERY")
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND", "CONFIG_MODULE")
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def conf():
    return Settings()


@pytest.fixture
def make_module(monkeypatch):
    """Make a module importable under its name."""

    def make(name, **contents):
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


# The table


def test_celerys_settings_have_celerys_defaults():
    ours = {name: TABLE[name].default for name in celery_defaults.DEFAULTS}
    assert ours == {**celery_defaults.DEFAULTS, **DIFFERENT_DEFAULTS}


def test_celerys_old_names_lead_to_the_same_settings():
    ours = {old: setting.name for setting in SETTINGS for old in setting.old_names}
    assert celery_defaults._TO_NEW_KEY.items() <= ours.items()


def test_names_are_unique():
    assert len(TABLE) == len(SETTINGS)
    old_names = [old for setting in SETTINGS for old in setting.old_names]
    assert len(set(old_names)) == len(old_names)
    assert not set(old_names) & set(TABLE)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_is_explained_and_takes_its_own_default(setting):
    assert setting.doc.endswith(".")
    assert setting.kind.expected
    assert Settings({setting.name: setting.default}).table(censored=False) == {setting.name: setting.default}


def _reads():
    """The settings' names that modules outside of the table mention, each with the modules that do."""
    reads = {}
    root = Path(fastq.__file__).parent
    for path in [*root.rglob("*.py"), *root.rglob("*.pyx")]:
        if path.parent == root / "app" and path.name in ("defaults.py", "settings.py"):
            continue
        text = path.read_text()
        if path.suffix == ".pyx":
            found = set(re.findall(r"\bconf\.(\w+)", text))
        else:
            found = {
                node.attr if isinstance(node, ast.Attribute) else node.value
                for node in ast.walk(ast.parse(text))
                if (isinstance(node, ast.Attribute) and _is_conf(node.value))
                or isinstance(node, ast.Constant)
            }
        for name in TABLE.keys() & found:
            reads.setdefault(name, []).append(str(path.relative_to(root)))
    return reads


def _is_conf(node):
    return getattr(node, "id", getattr(node, "attr", "")) in ("conf", "_conf")


# Its kind admits one value, so there is nothing to read.
SETTLED = {"task_protocol"}
# Parts of a group that are read by a name made of the group's.
COMPOSED = {f"broker_{part}" for part in ("transport", "user", "password", "port", "vhost")}


def test_every_setting_is_read_or_says_why_not():
    reads = _reads()
    unused = {name for name, setting in TABLE.items() if setting.unused}
    silent = TABLE.keys() - reads.keys() - unused - SETTLED - COMPOSED
    assert not silent, "nothing reads these: give them their meaning, or the table the reason (unused=)"
    stale = {name: reads[name] for name in unused & reads.keys()}
    assert not stale, "these are read by now: take unused= from the table"


def test_what_is_set_without_effect_is_known(conf):
    conf.update(worker_executable="python", worker_timer_precision=1.0, task_serializer="yaml")
    assert conf.unused() == {"worker_executable": "a detached worker is a fork of the command"}
    conf.worker_timer_precision = 0.5
    assert unused_settings(conf.unused() | {"other": "timers are exact"}) == [
        "Without effect: worker_executable: a detached worker is a fork of the command",
        "Without effect: worker_timer_precision, other: timers are exact",
    ]


# What is made of several settings


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "sqlite://"),
        ({"broker_url": "redis://h:1/2"}, "redis://h:1/2"),
        ({"broker_host": "redis://h:1/2"}, "redis://h:1/2"),
        ({"broker_host": "h", "broker_transport": "redis", "broker_port": 1, "broker_vhost": "/2"}, "redis://h:1/2"),
        ({"broker_transport": "redis", "broker_password": "p/w"}, "redis://:p%2Fw@localhost"),
        ({"broker_host": "h", "broker_user": "me", "broker_password": "pw"}, "amqp://me:pw@h"),
        ({"broker_host": "h", "broker_vhost": "/x"}, "amqp://h/%2Fx"),
        ({"broker_url": "redis://a:b@h:1/2", "broker_user": "x", "broker_password": "y", "broker_port": 9,
          "broker_vhost": "7", "broker_transport": "amqp"}, "redis://a:b@h:1/2"),
        ({"broker_url": "redis://me@h", "broker_password": "pw"}, "redis://me:pw@h"),
    ],
)  # fmt: skip
def test_the_parts_of_a_broker_fill_what_its_url_leaves_out(conf, settings, url):
    conf.update(settings)
    assert broker_url(conf, conf.broker_write_url) == url


@pytest.mark.parametrize(("given", "seconds"), [(4, 4), (None, 127.0), (0, 127.0)])
def test_without_a_limit_of_its_own_connecting_has_the_systems(given, seconds):
    app = fastq.FastQ(
        "limits",
        broker="redis://h",
        backend="redis://h",
        broker_connection_timeout=given,
        set_as_current=False,
    )
    assert app.broker.endpoint.connect_timeout == app.backend.endpoint.connect_timeout == seconds
    app.close()


def test_backends_may_be_overridden(make_module):
    class Mine(MemoryBackend):
        pass

    make_module("my_backends", Mine=Mine)
    app = fastq.FastQ(
        "mine", broker="memory://", backend="mine://x", set_as_current=False,
        override_backends={"mine": "my_backends:Mine"},
    )  # fmt: skip
    assert type(app.backend) is Mine
    app.close()
    with pytest.raises(ImproperlyConfigured, match="did you mean 'mine'"):
        open_backend("mime://", BackendOptions(), {"mine": "my_backends:Mine"})


def test_no_setting_hides_a_method():
    assert not set(TABLE) & set(dir(Settings))


def test_passwords_are_secret():
    open_ones = {setting.name for setting in SETTINGS if not setting.secret}
    assert not {name for name in open_ones if "password" in name or "secret_" in name}


# Reading


def test_a_value_is_an_attribute_and_an_item_under_both_names(conf):
    conf.task_serializer = "yaml"
    assert conf.task_serializer == conf["task_serializer"] == "yaml"
    assert conf.CELERY_TASK_SERIALIZER == conf["CELERY_TASK_SERIALIZER"] == "yaml"
    assert vars(conf)["task_serializer"] == "yaml"


def test_an_unknown_name_is_an_attribute_and_a_key_error_that_names_the_nearest(conf):
    with pytest.raises(AttributeError, match="did you mean 'task_serializer'"):
        conf.task_serialiser  # noqa: B018
    with pytest.raises(KeyError, match="did you mean 'task_serializer'"):
        conf["task_serialiser"]
    with pytest.raises(UnknownSetting, match="did you mean 'CELERY_TASK_SERIALIZER'"):
        conf["CELERY_TASK_SERIALISER"]
    assert not hasattr(conf, "no_such_thing")
    assert conf.get("no_such_thing", 3) == 3
    assert "no_such_thing" not in conf


def test_it_is_a_map_of_all_settings(conf):
    assert list(conf) == list(TABLE)
    assert len(conf) == len(TABLE)
    assert "broker_url" in conf and "BROKER_URL" in conf
    assert conf.get("task_default_queue", "x") == "celery"
    assert dict(conf)["task_default_queue"] == "celery"
    assert "broker_url" in dir(conf)


def test_some_settings_follow_others(conf):
    conf.update(broker_url="memory://", task_default_queue="q")
    assert (conf.broker_read_url, conf.broker_write_url) == ("memory://", "memory://")
    assert (conf.task_default_exchange, conf.task_default_routing_key) == ("q", "q")
    conf.task_default_exchange = "e"
    assert (conf.task_default_exchange, conf.task_default_routing_key) == ("e", "q")


def test_defaults_are_not_shared_between_applications(conf):
    conf.beat_schedule["one"] = {}
    conf.task_default_queue = "q"
    assert conf.beat_schedule == {"one": {}}
    assert Settings().beat_schedule == {}


# Setting


def test_every_change_grows_the_version(conf):
    conf.broker_url  # noqa: B018
    seen = [conf.version]
    for change in (
        lambda: conf.update(task_serializer="yaml"),
        lambda: setattr(conf, "task_serializer", "json"),
        lambda: conf.__setitem__("task_serializer", "yaml"),
        lambda: conf.add_defaults({"timezone": "UTC"}),
        lambda: conf.override(task_serializer="json"),
        lambda: conf.config_from_object({"timezone": "UTC"}),
        lambda: conf.__delitem__("task_serializer"),
        conf.clear,
    ):
        change()
        seen.append(conf.version)
    assert seen == sorted(set(seen))


def test_update_takes_maps_pairs_and_keywords(conf):
    conf.update({"task_serializer": "yaml", "timezone": "UTC"}, [("task_serializer", "json")], worker_lease=5)
    assert (conf.task_serializer, conf.timezone, conf.worker_lease) == ("json", "UTC", 5)
    assert conf.changes == {"task_serializer": "json", "timezone": "UTC", "worker_lease": 5}


def test_a_refused_update_changes_nothing(conf):
    with pytest.raises(ImproperlyConfigured):
        conf.update(task_serializer="yaml", worker_concurrency="many")
    assert conf.task_serializer == "json"
    assert conf.changes == {}


def test_a_configuration_of_flask_may_be_given_as_a_whole(conf):
    conf.update({"DEBUG": True, "SECRET_KEY": "k", "BROKER_URL": "memory://"})
    assert conf.broker_url == "memory://"
    assert list(conf.changes) == ["broker_url"]


def test_deleting_goes_back_to_what_stands_below(conf):
    conf.add_defaults(task_default_queue="below")
    conf.task_default_queue = "above"
    del conf.task_default_queue
    assert conf.task_default_queue == "below"
    conf["task_default_queue"] = "above"
    del conf["CELERY_DEFAULT_QUEUE"]
    assert conf.task_default_queue == "below"


@pytest.mark.parametrize("name", ["task_serialiser", "brokr_url", "CELERY_TASK_SERIALISER", "BROKER_URI"])
def test_setting_an_unknown_name_is_refused(conf, name):
    with pytest.raises(UnknownSetting, match=f"{name}.*did you mean"):
        conf.update({name: "x"})
    with pytest.raises(UnknownSetting):
        setattr(conf, name, "x")


def test_a_setting_of_the_users_own_is_declared(conf):
    conf.declare("proj_color", "red", doc="The colour.")
    assert conf.proj_color == "red"
    conf.config_from_object({"proj_color": "blue"})
    assert conf.proj_color == "blue"
    assert "proj_color" not in Settings()
    for taken in ("broker_url", "BROKER_URL", "update", "Color", "not a name"):
        with pytest.raises(ImproperlyConfigured, match="declared"):
            conf.declare(taken)


# Types


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("task_acks_late", "false", False),
        ("task_acks_late", 1, True),
        ("worker_concurrency", "8", 8),
        ("worker_concurrency", "auto", "auto"),
        ("worker_prefetch_multiplier", 0, 0),
        ("result_expires", timedelta(minutes=2), 120.0),
        ("result_expires", None, None),
        ("result_expires", 0, 0),
        ("task_time_limit", "1.5", 1.5),
        ("worker_lease", timedelta(seconds=5), 5.0),
        ("imports", "proj.tasks", ("proj.tasks",)),
        ("imports", ["a", "b"], ["a", "b"]),
        ("accept_content", {"json"}, ("json",)),
        ("broker_url", ["redis://a", "redis://b"], ["redis://a", "redis://b"]),
        ("broker_use_ssl", {"ca_certs": "x"}, {"ca_certs": "x"}),
        ("task_default_delivery_mode", "transient", "transient"),
        ("task_default_delivery_mode", "1", 1),
        ("task_default_rate_limit", "100/m", "100/m"),
        ("task_default_rate_limit", 2.5, 2.5),
        ("worker_redirect_stdouts_level", "info", "info"),
        ("worker_umask", "022", "022"),
        ("timezone", timezone.utc, timezone.utc),
        ("worker_pool", Settings, Settings),
        ("broker_pool_limit", None, None),
        ("redis_db", -1, -1),
    ],
)
def test_values_are_converted(conf, name, given, value):
    conf[name] = given
    assert conf[name] == value
    assert type(conf[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("task_acks_late", "maybe"),
        ("task_acks_late", 2),
        ("task_acks_late", None),
        ("worker_concurrency", "many"),
        ("worker_concurrency", -1),
        ("worker_concurrency", 2.5),
        ("worker_concurrency", True),
        ("worker_prefetch_multiplier", None),
        ("task_time_limit", "soon"),
        ("task_time_limit", -1),
        ("task_time_limit", float("nan")),
        ("worker_lease", 0),
        ("worker_lease", timedelta(0)),
        ("task_serializer", 3),
        ("imports", 3),
        ("imports", {"a": 1}),
        ("imports", ["a", 1]),
        ("beat_schedule", ["a"]),
        ("task_queues", "celery"),
        ("task_protocol", 3),
        ("task_default_rate_limit", "100 a minute"),
        ("worker_redirect_stdouts_level", "loud"),
        ("worker_umask", "rw"),
        ("timezone", 3),
        ("worker_pool", 3),
        ("broker_use_ssl", "perhaps"),
        ("worker_logfile", 3),
    ],
)
def test_a_wrong_value_is_refused_with_name_value_and_type(conf, name, given):
    with pytest.raises(ImproperlyConfigured) as caught:
        conf[name] = given
    text = str(caught.value)
    assert name in text and repr(given) in text and type(given).__name__ in text
    assert TABLE[name].kind.expected in text


def test_a_refusal_does_not_show_secrets(conf):
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.broker_password = [b"tops3cret"]
    assert "tops3cret" not in str(caught.value)
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.worker_concurrency = "redis://:tops3cret@host"
    assert "tops3cret" not in str(caught.value)


# Which source wins


def test_sources_from_the_weakest_to_the_strongest(conf, monkeypatch):
    got = [conf.broker_url]
    conf.add_defaults(broker_url="memory://added")
    got.append(conf.broker_url)
    conf.config_from_object({"broker_url": "memory://configured"})
    got.append(conf.broker_url)
    conf.broker_url = "memory://code"
    got.append(conf.broker_url)
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://celery-env")
    conf.broker_url = "memory://code-again"
    got.append(conf.broker_url)
    monkeypatch.setenv("FASTQ_BROKER_URL", "memory://fastq-env")
    conf.broker_url = "memory://code-again"
    got.append(conf.broker_url)
    conf.override(broker_url="memory://command-line")
    got.append(conf.broker_url)
    assert got == [
        None,
        "memory://added",
        "memory://configured",
        "memory://code",
        "memory://celery-env",
        "memory://fastq-env",
        "memory://command-line",
    ]


@pytest.mark.parametrize("name", ["broker_url", "broker_read_url", "broker_write_url", "result_backend"])
@pytest.mark.parametrize("prefix", ["FASTQ", "CELERY"])
def test_environment_variables(monkeypatch, name, prefix):
    monkeypatch.setenv(f"{prefix}_{name.upper()}", "memory://env")
    conf = Settings({name: "memory://code"})
    assert conf[name] == "memory://env"
    assert conf.value_set_for(name)
    monkeypatch.setenv(f"{prefix}_{name.upper()}", "")
    assert Settings({name: "memory://code"})[name] == "memory://code"


def test_add_defaults_never_replaces_what_was_set(conf):
    conf.task_default_queue = "mine"
    conf.add_defaults({"task_default_queue": "theirs", "timezone": "UTC"})
    assert (conf.task_default_queue, conf.timezone) == ("mine", "UTC")
    assert not conf.value_set_for("timezone")


# config_from_object


def test_from_a_module_by_name(conf, make_module):
    make_module("proj_conf", broker_url="memory://", task_serializer="yaml")
    conf.config_from_object("proj_conf")
    assert (conf.broker_url, conf.task_serializer) == ("memory://", "yaml")


def test_from_a_class_an_object_and_a_module_itself(conf, make_module):
    class Base:
        timezone = "Europe/Oslo"

    class Config(Base):
        task_serializer = "yaml"

    class Made:
        def __init__(self):
            self.task_serializer = "yaml"
            self.timezone = "Europe/Oslo"

        @property
        def configured(self):
            return True

    module = make_module("proj_conf", task_serializer="yaml", timezone="Europe/Oslo")
    for source in (Config, Config(), Made(), module):
        conf = Settings()
        assert conf.config_from_object(source) is True
        assert (conf.task_serializer, conf.timezone) == ("yaml", "Europe/Oslo")


@pytest.mark.parametrize("path", ["proj_conf:Config", "proj_conf.Config", "proj_conf:Outer.Config"])
def test_from_an_attribute_by_name(conf, make_module, path):
    class Config:
        task_serializer = "yaml"

    make_module("proj_conf", Config=Config, Outer=types.SimpleNamespace(Config=Config))
    conf.config_from_object(path)
    assert conf.task_serializer == "yaml"


def test_a_name_is_imported_at_the_first_read(conf, make_module):
    assert conf.config_from_object("proj_conf") is None
    conf.timezone = "UTC"
    make_module("proj_conf", task_serializer="yaml", timezone="Europe/Oslo")
    assert conf.task_serializer == "yaml"
    assert conf.timezone == "UTC"


def test_a_name_is_imported_at_once_after_the_first_read_or_by_force(conf, make_module):
    with pytest.raises(ModuleNotFoundError, match="'proj_conf'"):
        conf.config_from_object("proj_conf", force=True)
    make_module("proj_conf", task_serializer="yaml")
    assert conf.task_serializer == "yaml"
    make_module("other_conf", timezone="UTC")
    assert conf.config_from_object("other_conf") is True
    assert (conf.task_serializer, conf.timezone) == ("json", "UTC")


def test_the_module_may_read_the_settings_while_it_is_imported(conf, tmp_path, monkeypatch):
    (tmp_path / "reading_conf.py").write_text(
        "import holder_of_conf\nseen = holder_of_conf.conf.task_serializer\ndel seen\ntimezone = 'UTC'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "holder_of_conf", types.SimpleNamespace(conf=conf))
    conf.config_from_object("reading_conf")
    assert conf.timezone == "UTC"


def test_a_module_of_the_current_folder_is_found(conf, tmp_path, monkeypatch):
    (tmp_path / "folder_conf.py").write_text("timezone = 'UTC'\n")
    monkeypatch.chdir(tmp_path)
    path = [entry for entry in sys.path if entry]
    monkeypatch.setattr(sys, "path", list(path))
    conf.config_from_object("folder_conf")
    assert conf.timezone == "UTC"
    assert sys.path == path


def test_a_missing_module_is_named_with_the_likely_cause(conf):
    conf.config_from_object("no_such_conf.py")
    with pytest.raises(ModuleNotFoundError, match=r"'no_such_conf\.py'; did you mean 'no_such_conf'"):
        conf["broker_url"]


def test_a_missing_attribute_is_named(conf, make_module):
    make_module("proj_conf")
    with pytest.raises(ImproperlyConfigured, match="'Config'"):
        conf.config_from_object("proj_conf:Config", force=True)


def test_what_the_module_itself_raises_passes_through(conf, tmp_path, monkeypatch):
    (tmp_path / "importing_conf.py").write_text("import no_such_library\n")
    (tmp_path / "key_conf.py").write_text("{}['missing']\n")
    (tmp_path / "attribute_conf.py").write_text("(1).missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        conf.config_from_object("importing_conf", force=True)
    conf = Settings()
    conf.config_from_object("key_conf")
    with pytest.raises(KeyError):
        conf.get("broker_url")
    conf.config_from_object("attribute_conf")
    # Not an AttributeError: getattr would hide it.
    with pytest.raises(ImproperlyConfigured, match="missing"):
        getattr(conf, "broker_url", None)


def test_a_broken_configuration_fails_at_every_read(conf, make_module):
    make_module("proj_conf", task_serialiser="json")
    conf.config_from_object("proj_conf")
    for _ in range(2):
        with pytest.raises(UnknownSetting, match=r"module proj_conf: .*did you mean 'task_serializer'"):
            conf["broker_url"]


def test_silent_leaves_a_missing_module_aside(conf):
    assert conf.config_from_object("no_such_conf", silent=True) is None
    assert conf.task_serializer == "json"
    assert conf.config_from_object("no_such_conf", silent=True, force=True) is False


def test_a_later_source_replaces_the_earlier_one_and_code_stays(conf):
    conf.timezone = "UTC"
    conf.config_from_object({"task_serializer": "yaml", "timezone": "Europe/Oslo"})
    conf.config_from_object({"task_default_queue": "q"})
    assert (conf.task_serializer, conf.task_default_queue, conf.timezone) == ("json", "q", "UTC")


def test_names_in_a_module_that_are_no_settings_are_left_aside(conf, make_module):
    import os
    from fractions import Fraction

    make_module(
        "proj_conf",
        os=os,
        crontab=Fraction,
        helper=lambda: 1,
        exchange=Fraction(1),
        _private="x",
        DEBUG=True,
        MixedCase=1,
        timezone="UTC",
    )
    conf.config_from_object("proj_conf")
    assert conf.timezone == "UTC"
    assert list(conf.without_defaults()) == ["timezone"]


def test_future_imports_in_a_module_are_left_aside(conf, tmp_path, monkeypatch):
    (tmp_path / "future_conf.py").write_text("from __future__ import annotations\ntimezone = 'UTC'\n")
    monkeypatch.syspath_prepend(tmp_path)
    conf.config_from_object("future_conf")
    assert conf.timezone == "UTC"


@pytest.mark.parametrize("name", ["task_serialiser", "CELERY_SERIALISER", "CELERYD_FOO", "BROKER_URI"])
def test_a_misspelt_name_in_a_module_is_refused(conf, make_module, name):
    make_module("proj_conf", **{name: "x"})
    with pytest.raises(UnknownSetting, match=name):
        conf.config_from_object("proj_conf", force=True)


def test_a_misspelt_name_in_a_map_is_refused_whatever_it_holds(conf):
    with pytest.raises(UnknownSetting, match=r"task_rotes.*did you mean 'task_routes'"):
        conf.config_from_object({"task_rotes": lambda: 1})
    with pytest.raises(ImproperlyConfigured, match="must be text"):
        conf.config_from_object({3: 1})


# Old names


def test_old_names_alone_are_understood(conf):
    conf.config_from_object(
        {
            "BROKER_URL": "memory://",
            "CELERY_RESULT_BACKEND": "cache+memory://",
            "CELERY_TASK_RESULT_EXPIRES": 60,
            "CELERYD_CONCURRENCY": 3,
            "CELERYBEAT_SCHEDULE": {"a": {}},
        }
    )
    assert (conf.broker_url, conf.result_backend) == ("memory://", "cache+memory://")
    assert (conf.result_expires, conf.worker_concurrency, conf.beat_schedule) == (60, 3, {"a": {}})


def test_mixing_old_and_new_names_is_refused_with_the_renames(conf):
    with pytest.raises(ImproperlyConfigured, match=r"CELERY_TASK_SERIALIZER +-> task_serializer"):
        conf.config_from_object({"broker_url": "memory://", "CELERY_TASK_SERIALIZER": "json"})


def test_the_same_setting_under_both_names_is_no_mixture(conf):
    conf.config_from_object({"result_expires": 5, "CELERY_TASK_RESULT_EXPIRES": 6, "timezone": "UTC"})
    assert conf.result_expires == 5
    conf.config_from_object({"result_expires": 5, "CELERY_TASK_RESULT_EXPIRES": 6, "CELERY_TIMEZONE": "UTC"})
    assert (conf.result_expires, conf.timezone) == (5, "UTC")


def test_code_may_use_either_name_beside_a_source_of_the_other(conf):
    conf.update(BROKER_URL="memory://", task_serializer="yaml")
    conf.config_from_object({"CELERY_DEFAULT_QUEUE": "q"})
    assert (conf.broker_url, conf.task_serializer, conf.task_default_queue) == ("memory://", "yaml", "q")


# Namespace


class DjangoSettings:
    """What django.conf.settings looks like to us."""

    DEBUG = True
    TIME_ZONE = "Europe/Oslo"
    CELERY_TASK_SERIALIZER = "yaml"
    CELERY_BROKER_URL = "memory://"
    CELERYD_CONCURRENCY = 3
    DATABASES = {"default": {}}
    configured = True

    @property
    def UNRELATED(self):
        raise AssertionError("must not be read")


def test_a_namespace_begins_the_names(conf):
    conf.config_from_object(DjangoSettings(), namespace="CELERY")
    assert (conf.task_serializer, conf.broker_url, conf.worker_concurrency) == ("yaml", "memory://", 3)
    assert conf.timezone == "Europe/Oslo"


def test_the_namespace_may_be_given_with_the_application_and_end_in_an_underscore(make_module):
    make_module("proj_conf", CELERY_TIMEZONE="UTC", TIME_ZONE="Europe/Oslo")
    for namespace in ("CELERY", "CELERY_"):
        conf = Settings(namespace=namespace)
        conf.config_from_object("proj_conf")
        assert conf.timezone == "UTC"


def test_a_lower_case_namespace(conf):
    conf.config_from_object({"queue_timezone": "UTC", "other": 3}, namespace="queue")
    assert conf.timezone == "UTC"


def test_the_namespaced_name_wins(conf):
    conf.config_from_object(
        {"CELERY_TASK_SERIALIZER": "yaml", "task_serializer": "json", "timezone": "UTC"}, namespace="CELERY"
    )
    assert (conf.task_serializer, conf.timezone) == ("yaml", "UTC")


def test_an_unknown_name_under_the_namespace_is_refused(conf):
    with pytest.raises(UnknownSetting, match="did you mean 'CELERY_TASK_SERIALIZER'"):
        conf.config_from_object({"CELERY_TASK_SERIALISER": "x"}, namespace="CELERY")


# Variables that name a module


def test_from_an_environment_variable(conf, make_module, monkeypatch):
    make_module("proj_conf", task_serializer="yaml")
    monkeypatch.setenv("PROJ_CONFIG", "proj_conf")
    conf.config_from_envvar("PROJ_CONFIG")
    assert conf.task_serializer == "yaml"


def test_an_environment_variable_that_is_not_set(conf, monkeypatch):
    monkeypatch.delenv("PROJ_CONFIG", raising=False)
    assert conf.config_from_envvar("PROJ_CONFIG", silent=True) is False
    with pytest.raises(ImproperlyConfigured, match="PROJ_CONFIG"):
        conf.config_from_envvar("PROJ_CONFIG")


@pytest.mark.parametrize("variable", ["CELERY_CONFIG_MODULE", "FASTQ_CONFIG_MODULE"])
def test_the_default_configuration_module(make_module, monkeypatch, variable):
    make_module("proj_conf", task_serializer="yaml")
    monkeypatch.setenv(variable, "proj_conf")
    assert Settings().task_serializer == "yaml"
    conf = Settings()
    conf.config_from_object({"timezone": "UTC"})
    assert conf.task_serializer == "json"


# Showing


def test_the_table_holds_what_was_set_in_the_tables_order(conf, monkeypatch):
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "cache+memory://")
    conf.add_defaults(task_serializer="yaml")
    conf.update(worker_concurrency=2, timezone="UTC")
    assert conf.table() == {"timezone": "UTC", "worker_concurrency": 2, "result_backend": "cache+memory://"}
    assert list(conf.table()) == ["timezone", "worker_concurrency", "result_backend"]
    assert conf.table() == conf.without_defaults()
    assert conf.humanize() == ("timezone: 'UTC'\nworker_concurrency: 2\nresult_backend: 'cache+memory://'")
    assert len(conf.table(with_defaults=True)) == len(TABLE)
    assert "task_serializer: 'yaml'" in conf.humanize(with_defaults=True)


def test_secrets_are_masked_unless_asked_for(conf):
    conf.update(
        broker_url="redis://user:tops3cret@host/1;redis://:tops3cret@other",
        result_backend="db+postgresql://u:tops3cret@h/db",
        broker_password="tops3cret",
        security_key_password=b"tops3cret",
        broker_transport_options={"sentinel_kwargs": {"password": "tops3cret", "db": 3}},
        cassandra_auth_kwargs={"username": "u", "pw": "tops3cret"},
        broker_read_url=["redis://:tops3cret@a", "redis://b"],
        task_routes={"a": {"routing_key": "shown"}},
    )
    assert "tops3cret" not in conf.humanize()
    assert "tops3cret" not in conf.humanize(with_defaults=True)
    assert "tops3cret" not in repr(conf)
    assert "'shown'" in conf.humanize()
    assert conf.table()["broker_url"] == "redis://user:**@host/1;redis://:**@other"
    assert conf.table()["broker_transport_options"] == {"sentinel_kwargs": {"password": "********", "db": 3}}
    assert conf.table(censored=False)["broker_password"] == "tops3cret"
    assert "broker_password: None" in Settings().humanize(with_defaults=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:pw@localhost:6379/0", "redis://:**@localhost:6379/0"),
        ("amqp://guest:guest@localhost:5672//", "amqp://guest:**@localhost:5672//"),
        ("redis://user@localhost", "redis://user@localhost"),
        ("redis://:p@ss/w:rd@localhost/1", "redis://:**@localhost/1"),
        ("redis://:a;b@localhost", "redis://:**@localhost"),
        ("sentinel://:pw@a:1;sentinel://:pw@b:2", "sentinel://:**@a:1;sentinel://:**@b:2"),
        ("mongodb://u:p@h1,u:p@h2/db", "mongodb://u:**@h2/db"),
        ("rediss://h?password=pw&ssl_cert_reqs=none", "rediss://h?password=**&ssl_cert_reqs=none"),
        ("redis://h/0?ssl_keyfile=/a@b", "redis://h/0?ssl_keyfile=/a@b"),
        ("azureblockblob://DefaultEndpointsProtocol=https;AccountKey=pw", "azureblockblob://**"),
        ("sqlite:///home/me/a.db", "sqlite:///home/me/a.db"),
        ("memory://", "memory://"),
        ("rpc", "rpc"),
        ("", ""),
    ],
)
def test_mask_url(url, shown):
    assert mask_url(url) == shown
    assert mask([{"url": url}]) == [{"url": shown}]
