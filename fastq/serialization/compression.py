"""Compression of bodies and results (docs/PROTOCOL.md §2.4, §5.2).

A decompressor gets a limit, in bytes, and never makes much more than that: some hundred
bytes of a message can stand for gigabytes.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fastq.exceptions import DecodeError, SerializerNotInstalled, nearest_name

# 128 MiB: what RabbitMQ accepts as one message by default (max_message_size).
DECOMPRESSED_LIMIT_BYTES = 134_217_728

# Celery 5.7 marks a compressed result document so: \0 celery-compressed \0 <type> \0 <bytes>.
RESULT_MARKER = b"\0celery-compressed\0"

Compressor = Callable[[bytes], bytes]
Decompressor = Callable[[bytes, int], bytes]


class Compression(NamedTuple):
    """How bytes of one compression type are made and read."""

    content_type: str
    compressor: Compressor
    decompressor: Decompressor
    extra: str | None = None  # of the distribution, where a library is needed


def compress(data: bytes, method: str) -> tuple[bytes, str]:
    """Compress *data* by *method*, a name or header value; return it with its ``compression`` header.

    Raises `SerializerNotInstalled` for an unknown method or a missing library.
    """
    entry = _method(method)
    try:
        return entry.compressor(data), entry.content_type
    except ImportError as exc:
        raise SerializerNotInstalled(_missing(entry, exc)) from exc


def decompress(data: bytes, header: str, limit: int = DECOMPRESSED_LIMIT_BYTES) -> bytes:
    """Read *data* as the ``compression`` *header* says.

    Raises `DecodeError` when it is damaged, of an unknown kind, or makes more than *limit* bytes.
    """
    try:
        entry = _method(header)
        made = entry.decompressor(data, limit)
    except DecodeError:
        raise
    except SerializerNotInstalled as exc:
        raise DecodeError(str(exc)) from exc
    except ImportError as exc:
        raise DecodeError(_missing(entry, exc)) from exc
    except Exception as exc:  # every library has its own errors
        raise DecodeError(f"the bytes are not {header}: {type(exc).__name__}: {exc}") from exc
    if len(made) > limit:
        raise DecodeError(f"{len(data)} bytes of {header} make more than the limit of {limit} bytes")
    return made


def compression_type(method: str) -> str:
    """Return the ``compression`` header of *method*, a name or a header value.

    Raises `SerializerNotInstalled` if it is not known.
    """
    return _method(method).content_type


def mark_compressed(document: bytes, method: str) -> bytes:
    """Compress a stored result *document* by *method*, with the mark that its readers look for."""
    data, content_type = compress(document, method)
    return RESULT_MARKER + content_type.encode("ascii") + b"\0" + data


def unmark_compressed(stored: bytes, limit: int = DECOMPRESSED_LIMIT_BYTES) -> bytes:
    """Read a *stored* result document: decompressed if it bears the mark, else as it is."""
    if not stored.startswith(RESULT_MARKER):
        return stored
    header, separator, data = stored[len(RESULT_MARKER) :].partition(b"\0")
    if not separator:
        raise DecodeError(f"the compressed result names no compression: {stored[:60]!r}")
    return decompress(data, header.decode("ascii", "replace"), limit)


def register_compression(
    compressor: Compressor, decompressor: Decompressor, content_type: str, aliases: Iterable[str] = ()
) -> None:
    """Register a compression under the header value *content_type* and the names *aliases*.

    *decompressor* takes the bytes and a limit; it may stop as soon as it has made more than that.
    """
    _add(Compression(content_type=content_type, compressor=compressor, decompressor=decompressor), aliases)


def _method(name: str) -> Compression:
    entry = _methods.get(name)
    if entry is None:
        raise SerializerNotInstalled(
            f"no compression is named {name!r}: use one of {', '.join(sorted(_methods))}"
            f"{nearest_name(str(name), _methods)}"
        )
    return entry


def _missing(entry: Compression, exc: ImportError) -> str:
    if entry.extra is None:  # this Python was built without the module
        return f"the compression {entry.content_type} is not available: {exc}"
    return f'the compression {entry.content_type} needs a library: pip install "fastq-queue[{entry.extra}]"'


def _add(entry: Compression, aliases: Iterable[str]) -> None:
    for name in (entry.content_type, *aliases):
        _methods[name] = entry


def _whole(made: bytes, limit: int, is_complete: bool) -> bytes:
    """Return *made*; raise `EOFError` if it ends before the stream does, and not for the limit."""
    if not is_complete and len(made) <= limit:
        raise EOFError("the stream is cut off")
    return made


# ---------------------------------------------------------------------------
# The methods
# ---------------------------------------------------------------------------


def _zlib_decompress(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    made = stream.decompress(data, limit + 1)
    return _whole(made, limit, stream.eof)


def _bz2_compress(data: bytes) -> bytes:
    import bz2

    return bz2.compress(data)


def _bz2_decompress(data: bytes, limit: int) -> bytes:
    import bz2

    stream = bz2.BZ2Decompressor()
    made = stream.decompress(data, limit + 1)
    return _whole(made, limit, stream.eof)


def _lzma_compress(data: bytes) -> bytes:
    import lzma

    return lzma.compress(data)


def _lzma_decompress(data: bytes, limit: int) -> bytes:
    import lzma

    # The header chooses the dictionary's size, up to 4 GiB; the highest preset needs 65 MiB.
    stream = lzma.LZMADecompressor(memlimit=DECOMPRESSED_LIMIT_BYTES)
    made = stream.decompress(data, limit + 1)
    return _whole(made, limit, stream.eof)


def _zstd_compress(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def _zstd_decompress(data: bytes, limit: int) -> bytes:
    import zstandard

    size = zstandard.frame_content_size(data)  # -1: not written in the frame
    made = (
        zstandard.ZstdDecompressor()
        .stream_reader(data)
        .read(min(size, limit) + 1 if size >= 0 else limit + 1)
    )
    return _whole(made, limit, size < 0 or len(made) == size)


def _brotli_compress(data: bytes) -> bytes:
    import brotli

    return brotli.compress(data)  # type: ignore[no-any-return]


def _brotli_decompress(data: bytes, limit: int) -> bytes:
    import brotli

    stream = brotli.Decompressor()
    made = bytearray(stream.process(data, output_buffer_limit=limit + 1))
    while not stream.is_finished() and len(made) <= limit:
        more = stream.process(b"", output_buffer_limit=limit + 1)
        if not more:
            break
        made += more
    return _whole(bytes(made), limit, stream.is_finished())


_methods: dict[str, Compression] = {}

register_compression(zlib.compress, _zlib_decompress, "application/x-gzip", ("gzip", "zlib"))
register_compression(_bz2_compress, _bz2_decompress, "application/x-bz2", ("bzip2", "bzip"))
register_compression(_lzma_compress, _lzma_decompress, "application/x-lzma", ("lzma", "xz"))
_add(
    Compression(
        content_type="application/zstd",
        compressor=_zstd_compress,
        decompressor=_zstd_decompress,
        extra="zstd",
    ),
    ("zstd", "zstandard"),
)
_add(
    Compression(
        content_type="application/x-brotli",
        compressor=_brotli_compress,
        decompressor=_brotli_decompress,
        extra="brotli",
    ),
    ("brotli",),
)
