"""Serializers, compression, and exceptions as maps."""

import bz2
import io
import lzma
import subprocess
import sys
import textwrap
import zlib

import brotli
import kombu.compression
import kombu.serialization
import pytest
import zstandard

import fastq.exceptions
from fastq import serialization
from fastq.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    SecurityError,
    SerializerNotInstalled,
    WorkerLostError,
)

NAMES = ["json", "msgpack", "yaml", "pickle"]
ACCEPT = serialization.content_types(NAMES)
BODY = [[1, "ä", None, True, 1.5], {"k": [1, 2]}, {"chord": None}]
METHODS = ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "zstd", "zstandard", "brotli"]


# Serializers


@pytest.mark.parametrize("name", NAMES)
def test_a_body_survives_and_is_kombus(name):
    content_type, encoding, data = serialization.dumps(BODY, name)
    assert serialization.loads(data, content_type, encoding, ACCEPT) == BODY
    assert kombu.serialization.loads(data, content_type, encoding, accept=ACCEPT) == BODY
    theirs = kombu.serialization.dumps(BODY, name)
    assert theirs[:2] == (content_type, encoding) == serialization.types_of(name)
    wire = theirs[2].encode() if isinstance(theirs[2], str) else theirs[2]
    assert serialization.loads(wire, content_type, encoding, ACCEPT) == BODY
    assert serialization.name_of(content_type) == name


@pytest.mark.parametrize("value", ["text ä", b"\x00\xff"])
def test_raw_values_travel_as_they_are(value):
    content_type, encoding, data = serialization.dumps(value, "raw")
    assert serialization.loads(data, content_type, encoding, serialization.content_types(["raw"])) == value


@pytest.mark.parametrize("value", [5, "\ud800"])
def test_raw_takes_only_text_and_bytes(value):
    with pytest.raises(EncodeError):
        serialization.dumps(value, "raw")


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_cannot_be_written_raises_encode_error(name):
    with pytest.raises(EncodeError, match=name if name != "json" else "JSON"):
        serialization.dumps([lambda: None], name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x80\x05c", b"[" * 5000, b"\x91" * 100_000, b"a: b: c", b"\xff" * 9]
)
def test_damaged_bytes_raise_decode_error(name, data):
    content_type, encoding = serialization.types_of(name)
    try:
        serialization.loads(data, content_type, encoding, ACCEPT)
    except DecodeError:
        pass


def test_only_json_is_read_unless_enabled():
    data = serialization.dumps(BODY, "yaml")[2]
    with pytest.raises(
        ContentDisallowed, match=r"'application/x-yaml' is refused.*application/json; add 'yaml'"
    ):
        serialization.loads(data, "application/x-yaml")
    serialization.enable_insecure_serializers(["yaml"])
    try:
        assert serialization.loads(data, "application/x-yaml") == BODY
    finally:
        serialization.disable_insecure_serializers()
    with pytest.raises(ContentDisallowed):
        serialization.loads(data, "application/x-yaml")


def test_json_is_refused_where_it_is_not_accepted():
    with pytest.raises(ContentDisallowed, match="application/x-msgpack"):
        serialization.loads(b"1", "application/json", "utf-8", serialization.content_types(["msgpack"]))


def test_an_accepted_type_without_a_serializer_raises_decode_error():
    with pytest.raises(DecodeError, match="application/x-new"):
        serialization.loads(b"1", "application/x-new", "utf-8", {"application/x-new"})


def test_a_mistyped_name_is_told_the_nearest():
    with pytest.raises(SerializerNotInstalled, match="did you mean 'msgpack'"):
        serialization.dumps(1, "msgpak")
    with pytest.raises(SerializerNotInstalled, match="'pickel'"):
        serialization.content_types(["json", "pickel"])
    with pytest.raises(SerializerNotInstalled, match="did you mean 'gzip'"):
        serialization.compress(b"", "gzp")


def test_accept_content_takes_names_and_types():
    assert serialization.content_types(["json", "application/x-yaml"]) == {
        "application/json",
        "application/x-yaml",
    }
    assert serialization.content_types(["raw"]) == {"text/plain", "application/data"}


def test_a_registered_serializer_is_used_and_forgotten():
    serialization.register(
        "upper", lambda obj: obj.upper(), lambda data: data.decode().lower(), "text/x-upper"
    )
    try:
        assert serialization.dumps("abc", "upper") == ("text/x-upper", "utf-8", b"ABC")
        accept = serialization.content_types(["upper"])
        assert serialization.loads(b"ABC", "text/x-upper", "utf-8", accept) == "abc"
    finally:
        serialization.unregister("upper")
    with pytest.raises(SerializerNotInstalled):
        serialization.dumps("abc", "upper")
    with pytest.raises(ValueError, match="built-in"):
        serialization.register("json", str, str, "application/json")


def test_msgpack_reads_maps_with_any_key():
    data = serialization.dumps({1: "a", b"b": 2}, "msgpack")[2]
    assert serialization.loads(data, "application/x-msgpack", "binary", ACCEPT) == {1: "a", b"b": 2}


def run(code):
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_missing_library_names_its_extra():
    run("""
        import sys
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name in ("msgpack", "brotli"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Missing())
        from fastq import serialization
        from fastq.exceptions import DecodeError, SerializerNotInstalled
        def text(error, function, *args):
            try:
                function(*args)
            except error as exc:
                return str(exc)
        assert "fastq-queue[brotli]" in text(SerializerNotInstalled, serialization.compress, b"x", "brotli")
        assert "fastq-queue[brotli]" in text(DecodeError, serialization.decompress, b"x", "brotli")
    """)
    run("""
        import sys
        sys.modules["msgpack"] = None
        from fastq import serialization
        from fastq.exceptions import DecodeError, SerializerNotInstalled
        calls = (serialization.dumps, ([], "msgpack")), (serialization.content_types, (["msgpack"],))
        for call, args in calls:
            try:
                call(*args)
            except SerializerNotInstalled as exc:
                assert "fastq-queue[msgpack]" in str(exc), exc
            else:
                raise AssertionError(call)
        try:
            serialization.loads(b"", "application/x-msgpack", None, {"application/x-msgpack"})
        except DecodeError as exc:
            assert "msgpack" in str(exc)
    """)


def test_nothing_optional_is_imported_before_it_is_used():
    run(
        f"""
        import sys, types
        package = sys.modules["fastq"] = types.ModuleType("fastq")  # without all that its own import brings
        package.__path__ = {fastq.__path__!r}
        import fastq._core.codec
        before = set(sys.modules)
        import fastq.serialization
        optional = {{"msgpack", "yaml", "zstandard", "brotli", "pickle", "bz2", "lzma"}}
        assert not optional & (set(sys.modules) - before)
        """
    )


# Compression


@pytest.mark.parametrize("method", METHODS)
def test_compressed_bytes_survive(method):
    data = b"fastq " * 1000
    packed, header = serialization.compress(data, method)
    assert len(packed) < len(data) / 10
    assert header == serialization.compression_type(method)
    assert serialization.decompress(packed, header) == serialization.decompress(packed, method) == data
    assert serialization.decompress(*serialization.compress(b"", method)) == b""


@pytest.mark.parametrize("method", kombu.compression.encoders())
def test_compression_is_kombus(method):
    packed, header = kombu.compression.compress(b"fastq " * 10, method)
    assert serialization.decompress(packed, header) == b"fastq " * 10
    packed, header = serialization.compress(b"fastq " * 10, method)
    assert kombu.compression.decompress(packed, header) == b"fastq " * 10


def streamed_zstd(data):
    out = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(out, closefd=False) as writer:
        writer.write(data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("method", "pack"),
    [
        ("gzip", zlib.compress),
        ("bzip2", bz2.compress),
        ("xz", lzma.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("zstd", streamed_zstd),
        ("brotli", brotli.compress),
    ],
)
def test_a_bomb_stops_at_the_limit(method, pack):
    bomb = pack(bytes(5_000_000))
    with pytest.raises(DecodeError, match="limit of 1000 bytes"):
        serialization.decompress(bomb, method, 1000)
    assert len(serialization.decompress(bomb, method, 5_000_000)) == 5_000_000
    with pytest.raises(DecodeError, match="limit"):
        serialization.decompress(bomb, method, 4_999_999)


@pytest.mark.parametrize("method", METHODS)
def test_damaged_compression_raises_decode_error(method):
    packed, _ = serialization.compress(bytes(range(256)) * 40, method)
    for data in (b"", b"garbage", packed[: len(packed) // 2], packed[:-4], b"\0" + packed):
        with pytest.raises(DecodeError):
            serialization.decompress(data, method)


def test_an_unknown_compression_raises_decode_error():
    with pytest.raises(DecodeError, match="'application/x-new'"):
        serialization.decompress(b"", "application/x-new")


def test_results_are_marked_when_compressed():
    stored = serialization.mark_compressed(b'{"status": "SUCCESS"}', "gzip")
    assert stored.startswith(b"\0celery-compressed\0application/x-gzip\0")
    assert serialization.unmark_compressed(stored) == b'{"status": "SUCCESS"}'
    assert serialization.unmark_compressed(b"{}") == b"{}"
    with pytest.raises(DecodeError):
        serialization.unmark_compressed(b"\0celery-compressed\0application/x-gzip")


def test_a_registered_compression_is_used():
    serialization.register_compression(
        lambda data: data[::-1], lambda data, limit: data[::-1], "x-turn", ["turn"]
    )
    assert serialization.compress(b"abc", "turn") == (b"cba", "x-turn")
    with pytest.raises(DecodeError, match="limit"):
        serialization.decompress(b"cba", "x-turn", 2)


# Exceptions


class Custom(Exception):
    class Inner(Exception):
        pass


class TwoArguments(Exception):
    def __init__(self, code, text):
        self.code = code
        super().__init__(text)


class NeedsInit(TwoArguments):
    def __str__(self):
        return f"{self.code}"


class Unprintable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "exc",
    [ValueError("boom", 42), Custom(), Custom.Inner("x"), KeyError("k"), OSError(2, "no"), SystemExit(3)],
)
def test_an_exception_survives_as_its_class(exc):
    back = serialization.exception_from_map(serialization.exception_to_map(exc))
    assert type(back) is type(exc)
    assert back.args == exc.args


def test_our_exceptions_are_written_as_celerys():
    assert serialization.exception_to_map(WorkerLostError("x"))["exc_module"] == "billiard.exceptions"
    assert serialization.exception_to_map(EncodeError("x"))["exc_module"] == "kombu.exceptions"
    written = serialization.exception_to_map(fastq.exceptions.FastQError("x"))
    assert written == {"exc_type": "CeleryError", "exc_message": ["x"], "exc_module": "celery.exceptions"}
    assert type(serialization.exception_from_map(written)) is fastq.exceptions.FastQError


def test_arguments_without_a_written_form_become_their_repr():
    assert serialization.exception_to_map(ValueError({1}, "x"))["exc_message"] == ["{1}", "x"]
    assert "Unprintable" in serialization.exception_to_map(ValueError(Unprintable()))["exc_message"][0]


def test_an_exception_whose_arguments_are_not_its_inits_keeps_its_class():
    back = serialization.exception_from_map(serialization.exception_to_map(TwoArguments(5, "text")))
    assert type(back) is TwoArguments
    assert str(back) == "text"


def test_one_that_cannot_even_be_shown_becomes_neutral():
    back = serialization.exception_from_map(serialization.exception_to_map(NeedsInit(5, "text")))
    assert (type(back).__name__, back.args) == ("NeedsInit", ("text",))


def test_an_unknown_class_is_one_neutral_class_per_name():
    one, two = (
        serialization.exception_from_map({"exc_type": "Odd", "exc_module": "no.such", "exc_message": m})
        for m in (["a"], "b")
    )
    assert type(one) is type(two)
    assert (type(one).__module__, type(one).__name__) == ("fastq.exceptions", "Odd")
    assert (one.args, two.args) == (("a",), ("b",))
    assert serialization.exception_from_map({"exc_type": "x\0\ud800" * 200}).args == ()


def test_no_module_is_imported_for_a_name():
    assert "this" not in sys.modules
    exc = serialization.exception_from_map({"exc_type": "c", "exc_module": "this", "exc_message": []})
    assert type(exc).__module__ == "fastq.exceptions"
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "int"),
        ("os", "environ"),
        ("fastq.exceptions", "reraise"),
    ],
)
def test_what_is_no_exception_class_raises_security_error(module, name):
    with pytest.raises(SecurityError, match="no exception class"):
        serialization.exception_from_map({"exc_type": name, "exc_module": module, "exc_message": "id"})


@pytest.mark.parametrize("value", ["boom", None, [], {}, {"exc_type": 5}])
def test_what_is_no_exception_map_raises_decode_error(value):
    with pytest.raises(DecodeError):
        serialization.exception_from_map(value)


def test_an_exception_is_returned_as_it_is():
    exc = ValueError(1)
    assert serialization.exception_from_map(exc) is exc
