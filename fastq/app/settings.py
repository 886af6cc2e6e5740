"""The settings of an application: where they come from, which source wins, and how they are shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from fastq.app.config_source import SettingNames, import_config, settings_in
from fastq.app.defaults import SETTINGS, Setting
from fastq.app.kinds import ANY
from fastq.app.masking import MASK, mask, mask_url
from fastq.exceptions import ImproperlyConfigured, SettingNotFound

__all__ = ("SETTINGS", "Setting", "Settings", "mask_url")

_TABLE = {setting.name: setting for setting in SETTINGS}
_OLD_NAMES = {old: setting.name for setting in SETTINGS for old in setting.old_names}

# Celery's four, each also with FASTQ_ in front, which wins.
_FROM_ENVIRONMENT = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")
_CONFIG_MODULE_VARIABLES = ("FASTQ_CONFIG_MODULE", "CELERY_CONFIG_MODULE")
_DERIVED = {  # a setting that is None has the value of the other one
    "broker_read_url": "broker_url",
    "broker_write_url": "broker_url",
    "task_default_exchange": "task_default_queue",
    "task_default_routing_key": "task_default_queue",
}


class Settings(MutableMapping[str, Any]):
    """Every setting by its name, as an attribute and as an item; old upper-case names are understood.

    From the weakest to the strongest: the table's defaults, `add_defaults`, the configuration of
    `config_from_object`, what was set in code (`update`, attributes, items), environment variables
    (``FASTQ_BROKER_URL``, ``CELERY_BROKER_URL``, ... ``_RESULT_BACKEND``), `override`. Values are
    checked and converted when they are set: a wrong one raises ImproperlyConfigured, an unknown
    name UnknownSetting.

    `version` grows with every change. A configuration named by text is imported at the first read,
    so that it may import modules that define tasks of the application. Not for changes in one
    thread while others read.
    """

    # The values stand in the instance's __dict__, so that reading one is a plain attribute read.
    # They are absent until the first read, which __getattr__ sees.

    def __init__(self, changes: Mapping[str, Any] | None = None, *, namespace: str | None = None) -> None:
        self.version = 0
        self._namespace = namespace
        self._known = _TABLE
        self._defaults = {
            name: dict(setting.default) if isinstance(setting.default, dict) else setting.default
            for name, setting in _TABLE.items()
        }
        self._added: dict[str, Any] = {}
        self._configured: dict[str, Any] = {}
        self._changes: dict[str, Any] = {}
        self._overrides: dict[str, Any] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._pending: tuple[str, str | None, bool] | None = _default_config_module()
        self._is_loaded = False
        if changes:
            self.update(changes)

    # Reading

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            self._load()
        except AttributeError as exc:
            # hasattr() and getattr(conf, name, default) would hide it.
            raise ImproperlyConfigured(f"the configuration can't be read: {exc}") from exc
        return self[name]

    def __getitem__(self, name: str) -> Any:
        self._load()
        try:
            return self.__dict__[self._known[_OLD_NAMES.get(name, name)].name]
        except KeyError:
            raise SettingNotFound(name, _OLD_NAMES if name.isupper() else self._known) from None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of the setting *name*, or *default* if there is no such setting."""
        return self[name] if name in self else default  # noqa: SIM401 - this is what get() does

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in _OLD_NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._known]

    @property
    def changes(self) -> dict[str, Any]:
        """What was set in code, as a new dict."""
        return dict(self._changes)

    def value_set_for(self, name: str) -> bool:
        """Whether the setting *name* was set anywhere, rather than having its default."""
        return _OLD_NAMES.get(name, name) in self.without_defaults()

    # Setting

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name == "version":
            object.__setattr__(self, name, value)
        else:
            self.update({name: value})

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        self._changes.pop(_OLD_NAMES.get(name, name), None)
        self._change()

    def __delattr__(self, name: str) -> None:
        if name in self:
            del self[name]
        else:
            object.__delattr__(self, name)

    def clear(self) -> None:
        """Forget what was set in code."""
        self._changes.clear()
        self._change()

    def update(self, *sources: Any, **changes: Any) -> None:
        """Set several settings at once; if one is refused, none is set.

        A source is a map, or an iterable of pairs. Upper-case names that are no settings are left
        aside, so that a whole configuration of Flask may be given.
        """
        self._changes.update(self._checked({**_merged(sources), **changes}))
        self._change()

    def add_defaults(self, *sources: Any, **defaults: Any) -> None:
        """Set values that everything else but the table's defaults goes before."""
        self._added.update(self._checked({**_merged(sources), **defaults}))
        self._change()

    def add_entry(self, name: str, key: str, value: Any) -> bool:
        """Add an entry to the setting *name*, a dict, whatever else sets it.

        Returns whether *key* was added before.
        """
        entries = self._entries.setdefault(name, {})
        is_known = key in entries
        entries[key] = value
        self._change()
        return is_known

    def override(self, **values: Any) -> None:
        """Set values that go before everything else, environment variables too: a command line's options."""
        self._overrides.update(self._checked(values))
        self._change()

    def declare(self, name: str, default: Any = None, doc: str = "") -> None:
        """Make *name* a setting of the user's own, of any type, with this default."""
        if name in self or hasattr(type(self), name) or not (name.isidentifier() and name.islower()):
            raise ImproperlyConfigured(f"no setting can be declared as {name!r}: taken, or not lower case")
        self._known = {**self._known, name: Setting(name, ANY, default, doc)}
        self._defaults[name] = default
        self._change()

    # Sources

    def config_from_object(
        self, source: Any, *, namespace: str | None = None, silent: bool = False, force: bool = False
    ) -> bool | None:
        """Take the settings from *source* in place of an earlier source; what was set in code stays.

        It is a map, a module, a class, an object, or names one: 'module', 'module:attribute' or
        'module.attribute'. A name is imported at the first read of a setting, or at once if there
        was one or with *force*; None is returned if it waits. With *silent*, a name that can't be
        found is left aside and False is returned.
        """
        if namespace is None:
            namespace = self._namespace
        if isinstance(source, str):
            self._pending = (source, namespace, silent)
            is_due = force or self._is_loaded
            self._change()
            return self._load() if is_due else None
        self._configured = self._checked(source, namespace, is_mixing_allowed=False)
        self._pending = None
        self._change()
        return True

    def config_from_envvar(self, variable: str, *, silent: bool = False, force: bool = False) -> bool | None:
        """Take the settings from the module that the environment *variable* names.

        If it is not set: ImproperlyConfigured, or with *silent* False is returned.
        """
        name = os.environ.get(variable)
        if name:
            return self.config_from_object(name, silent=silent, force=force)
        if silent:
            return False
        raise ImproperlyConfigured(
            f"the environment variable {variable!r} is not set: let it name the module of the configuration"
        )

    # Showing

    def unused(self) -> dict[str, str]:
        """The settings that differ from their default and change nothing, each with the reason."""
        return {
            name: self._known[name].unused
            for name, value in self.without_defaults().items()
            if self._known[name].unused and value != self._defaults[name]
        }

    def without_defaults(self) -> dict[str, Any]:
        """Return the settings that were set anywhere, in the order of the table."""
        self._load()
        given = {**self._configured, **self._changes, **self._from_environment(), **self._overrides}
        given.update((name, self[name]) for name in self._entries)
        return {name: given[name] for name in self._known if name in given}

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return the settings that were set, or all; secrets are replaced if *censored*."""
        values = dict(self) if with_defaults else self.without_defaults()
        if not censored:
            return values
        return {
            name: MASK if self._known[name].secret and value is not None else mask(value)
            for name, value in values.items()
        }

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return `table` as text, one setting a line."""
        return "\n".join(f"{name}: {value!r}" for name, value in self.table(with_defaults, censored).items())

    def __repr__(self) -> str:
        return f"<Settings: {self.table()!r}>"

    # Behind them

    def _load(self) -> bool:
        """Read the pending configuration and lay the values out; False if a silent one was not found."""
        if self._is_loaded:
            return True
        pending, self._pending = self._pending, None  # it may itself read settings
        is_found = True
        if pending is not None:
            path, namespace, silent = pending
            try:
                source = _import_quietly(path, silent)
                self._configured = self._checked(source, namespace, is_mixing_allowed=False)
            except _NotFound:
                is_found = False
            except BaseException:
                self._pending = pending
                self._is_loaded = False
                raise
        self._lay_out()
        return is_found

    def _change(self) -> None:
        """Have the values laid out anew: at once, or at the first read if that has not come."""
        if self._is_loaded and self._pending is None:
            self._lay_out()
        else:
            self._is_loaded = False
            for name in self._known:
                self.__dict__.pop(name, None)
        self.version += 1

    def _lay_out(self) -> None:
        values = {
            **self._defaults,
            **self._added,
            **self._configured,
            **self._changes,
            **self._from_environment(),
            **self._overrides,
        }
        for name, other in _DERIVED.items():
            if values[name] is None:
                values[name] = values[other]
        for name, entries in self._entries.items():
            # In place, as in Celery: who has got hold of the dict sees what is added.
            values[name] = values[name] if isinstance(values[name], dict) else dict(values[name])
            values[name].update(entries)
        self.__dict__.update(values)
        self._is_loaded = True
        self.version += 1

    def _from_environment(self) -> dict[str, Any]:
        found = {}
        for name in _FROM_ENVIRONMENT:
            value = os.environ.get(f"FASTQ_{name.upper()}") or os.environ.get(f"CELERY_{name.upper()}")
            if value:
                found[name] = value
        return found

    def _checked(
        self, source: Any, namespace: str | None = None, *, is_mixing_allowed: bool = True
    ) -> dict[str, Any]:
        names = SettingNames(self._known, _OLD_NAMES)
        given = settings_in(source, names, namespace, is_mixing_allowed=is_mixing_allowed)
        return {name: _converted(self._known[name], value) for name, value in given.items()}


class _NotFound(Exception):
    """A configuration that may be missing is missing."""


def _import_quietly(path: str, silent: bool) -> Any:
    try:
        return import_config(path)
    except (ImportError, ImproperlyConfigured):
        if silent:
            raise _NotFound from None
        raise


def _default_config_module() -> tuple[str, str | None, bool] | None:
    for variable in _CONFIG_MODULE_VARIABLES:
        if os.environ.get(variable):
            return os.environ[variable], None, False
    return None


def _merged(sources: tuple[Any, ...]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for source in sources:
        merged.update(source)
    return merged


def _converted(setting: Setting, value: Any) -> Any:
    if value is None and (setting.default is None or setting.nullable):
        return None
    try:
        return setting.kind.convert(value)
    except (ValueError, TypeError, OverflowError):
        shown = MASK if setting.secret else repr(mask(value))
        raise ImproperlyConfigured(
            f"the setting {setting.name!r} must be {setting.kind.expected},"
            f" not {shown} ({type(value).__name__})"
        ) from None
