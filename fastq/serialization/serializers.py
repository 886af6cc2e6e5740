"""Serializers by name and by content type (docs/PROTOCOL.md §2.1).

The libraries that only some of them need are imported by the first value that they write or
read, so that a program pays for those it uses.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from fastq._core.codec import json_dumps, json_loads
from fastq.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    SerializationError,
    SerializerNotInstalled,
    nearest_name,
)

JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain"
BINARY_TYPE = "application/data"
RAW_TYPES = frozenset({TEXT_TYPE, BINARY_TYPE})
# Content encodings that say "these bytes are no text"; the second is Ruby's name for it.
BINARY_ENCODINGS = frozenset({"binary", "ascii-8bit"})


class Serializer(NamedTuple):
    """How values of one content type are written and read."""

    # Not a dataclass: making one takes 1.4 ms of every program's start, this 0.4.
    name: str
    encoder: Callable[[Any], bytes | str]
    decoder: Callable[[bytes], Any]
    content_type: str
    content_encoding: str
    module: str | None = None  # the optional library it needs, and the extra that installs it
    extra: str | None = None

    def require(self) -> None:
        """Raise `SerializerNotInstalled` unless the library that this serializer needs is there."""
        from importlib.util import find_spec

        if self.module is not None and find_spec(self.module) is None:
            raise SerializerNotInstalled(
                f'the serializer {self.name!r} needs {self.module}: pip install "fastq-queue[{self.extra}]"'
            )


# ---------------------------------------------------------------------------
# Writing and reading
# ---------------------------------------------------------------------------


def dumps(obj: Any, serializer: str = "json") -> tuple[str, str, bytes]:
    """Write *obj* with the *serializer* of that name, as (content type, content encoding, bytes).

    ``raw`` takes str (``text/plain``) and bytes (``application/data``) as they are. Raises
    `EncodeError`, and `SerializerNotInstalled` for a name that is not registered or whose
    library is missing.
    """
    if serializer == "json":
        return JSON_TYPE, "utf-8", json_dumps(obj)
    if serializer == "raw":
        return _dump_raw(obj)
    entry = _named(serializer)
    try:
        data = entry.encoder(obj)
        encoded = data.encode(entry.content_encoding) if isinstance(data, str) else data
    except SerializationError:
        raise
    except ImportError as exc:
        entry.require()
        raise EncodeError(f"the serializer {serializer!r} can't be imported: {exc}") from exc
    except Exception as exc:  # every library has its own errors, and reduce methods are the user's
        raise EncodeError(f"can't write {type(obj).__name__} as {serializer}: {exc}") from exc
    return entry.content_type, entry.content_encoding, encoded


def loads(
    data: bytes, content_type: str, content_encoding: str | None = None, accept: Collection[str] | None = None
) -> Any:
    """Read *data* of *content_type*, if that is one of *accept* (content types, see `content_types`).

    With *accept* None it is JSON alone and what `enable_insecure_serializers` added. The raw types,
    once accepted, give text, or bytes where *content_encoding* is binary. Raises
    `ContentDisallowed`, and `DecodeError` whatever else may be wrong.
    """
    if content_type not in (_enabled if accept is None else accept):
        raise ContentDisallowed(_refusal(content_type, _enabled if accept is None else accept))
    if content_type == JSON_TYPE:
        return json_loads(data)
    entry = _by_type.get(content_type)
    try:
        if entry is not None:
            return entry.decoder(data)
        if content_type in RAW_TYPES:
            encoding = content_encoding or "utf-8"
            return data if encoding.lower() in BINARY_ENCODINGS else data.decode(encoding)
    except DecodeError:
        raise
    except Exception as exc:  # every library has its own errors, and a pickle can raise any
        raise DecodeError(f"the body is not {content_type}: {type(exc).__name__}: {exc}") from exc
    raise DecodeError(f"no serializer is registered for the content type {content_type!r}")


def _dump_raw(obj: Any) -> tuple[str, str, bytes]:
    if isinstance(obj, bytes):
        return BINARY_TYPE, "binary", obj
    if not isinstance(obj, str):
        raise EncodeError(f"the serializer 'raw' takes str and bytes, not {type(obj).__name__}")
    try:
        return TEXT_TYPE, "utf-8", obj.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise EncodeError(f"the text is not valid Unicode: {exc}") from exc


def _refusal(content_type: str, accept: Collection[str]) -> str:
    entry = _by_type.get(content_type)
    name = "raw" if content_type in RAW_TYPES else content_type if entry is None else entry.name
    accepted = ", ".join(sorted(accept)) or "nothing"
    return (
        f"the content type {content_type!r} is refused: accept_content allows {accepted}; "
        f"add {name!r} to it only if you trust everyone who can write to the broker"
    )


# ---------------------------------------------------------------------------
# The registry
# ---------------------------------------------------------------------------


def register(
    name: str,
    encoder: Callable[[Any], bytes | str],
    decoder: Callable[[bytes], Any],
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Register a serializer, or replace the one of that *name*; nothing accepts it until configured.

    *encoder* may return text, which is then written in *content_encoding*.
    """
    if name in ("json", "raw") or content_type == JSON_TYPE or content_type in RAW_TYPES:
        raise ValueError(
            f"{name!r} ({content_type}) would replace a built-in serializer: choose another name"
        )
    _add(
        Serializer(
            name=name,
            encoder=encoder,
            decoder=decoder,
            content_type=content_type,
            content_encoding=content_encoding,
        )
    )


def unregister(name: str) -> None:
    """Forget the serializer of that *name*. Raises `SerializerNotInstalled` if there is none."""
    entry = _named(name)
    del _by_name[name]
    _by_type.pop(entry.content_type, None)
    _enabled.discard(entry.content_type)


def content_types(names: Iterable[str]) -> frozenset[str]:
    """Turn ``accept_content``, serializers by name or content type, into content types.

    Raises `SerializerNotInstalled` for a name that is not registered or whose library is missing.
    """
    found: set[str] = set()
    for name in names:
        if name in ("json", JSON_TYPE):
            found.add(JSON_TYPE)
        elif name == "raw":
            found |= RAW_TYPES
        elif name in RAW_TYPES:
            found.add(name)
        else:
            entry = _by_type.get(name) or _named(name)
            entry.require()
            found.add(entry.content_type)
    return frozenset(found)


def types_of(name: str) -> tuple[str, str]:
    """Return the content type and content encoding of the serializer of that *name*."""
    if name == "json":
        return JSON_TYPE, "utf-8"
    entry = _named(name)
    return entry.content_type, entry.content_encoding


def name_of(content_type: str) -> str:
    """Return the name of the serializer of *content_type*. Raises `SerializerNotInstalled`."""
    if content_type == JSON_TYPE:
        return "json"
    entry = _by_type.get(content_type)
    if entry is None:
        raise SerializerNotInstalled(f"no serializer is registered for the content type {content_type!r}")
    return entry.name


def enable_insecure_serializers(choices: Iterable[str] = ("pickle", "yaml", "msgpack")) -> None:
    """Let `loads` without *accept* read *choices* too, in this process."""
    _enabled.update(content_types(choices))


def disable_insecure_serializers(allowed: Iterable[str] = ("json",)) -> None:
    """Let `loads` without *accept* read nothing but *allowed*, in this process."""
    types = content_types(allowed)
    _enabled.clear()
    _enabled.update(types)


def _add(entry: Serializer) -> None:
    replaced = _by_name.get(entry.name)
    if replaced is not None:
        _by_type.pop(replaced.content_type, None)
    _by_name[entry.name] = entry
    _by_type[entry.content_type] = entry


def _named(name: str) -> Serializer:
    entry = _by_name.get(name)
    if entry is None:
        known = ["json", "raw", *_by_name]
        raise SerializerNotInstalled(
            f"no serializer is named {name!r}: register it or use one of {', '.join(sorted(known))}"
            f"{nearest_name(name, known)}"
        )
    return entry


# ---------------------------------------------------------------------------
# Those that need a library
# ---------------------------------------------------------------------------


def _msgpack_dumps(obj: Any) -> bytes:
    import msgpack

    return msgpack.packb(obj, use_bin_type=True)  # type: ignore[no-any-return]


def _msgpack_loads(data: bytes) -> Any:
    import msgpack

    # Celery writes maps with keys other than text too, and then can't read them.
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


def _yaml_dumps(obj: Any) -> str:
    import yaml

    return yaml.safe_dump(obj)  # type: ignore[no-any-return]


def _yaml_loads(data: bytes) -> Any:
    import yaml

    # Not libyaml's CSafeLoader: deeply nested brackets overflow its stack and kill the process.
    return yaml.load(data, Loader=yaml.SafeLoader)


def _pickle_dumps(obj: Any) -> bytes:
    import pickle

    return pickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL)


def _pickle_loads(data: bytes) -> Any:
    import pickle

    return pickle.loads(data)


_by_name: dict[str, Serializer] = {}
_by_type: dict[str, Serializer] = {}
_enabled: set[str] = {JSON_TYPE}

_add(
    Serializer(
        name="msgpack",
        encoder=_msgpack_dumps,
        decoder=_msgpack_loads,
        content_type="application/x-msgpack",
        content_encoding="binary",
        module="msgpack",
        extra="msgpack",
    )
)
_add(
    Serializer(
        name="yaml",
        encoder=_yaml_dumps,
        decoder=_yaml_loads,
        content_type="application/x-yaml",
        content_encoding="utf-8",
        module="yaml",
        extra="yaml",
    )
)
_add(
    Serializer(
        name="pickle",
        encoder=_pickle_dumps,
        decoder=_pickle_loads,
        content_type="application/x-python-serialize",
        content_encoding="binary",
    )
)
