"""Values to bytes and back: serializers, compression, and exceptions as maps."""

from fastq._core.codec import register_type
from fastq.serialization.compression import (
    DECOMPRESSED_LIMIT_BYTES,
    compress,
    compression_type,
    decompress,
    mark_compressed,
    register_compression,
    unmark_compressed,
)
from fastq.serialization.remote_exceptions import exception_from_map, exception_to_map
from fastq.serialization.serializers import (
    content_types,
    disable_insecure_serializers,
    dumps,
    enable_insecure_serializers,
    loads,
    name_of,
    register,
    types_of,
    unregister,
)

__all__ = (
    "DECOMPRESSED_LIMIT_BYTES",
    "compress",
    "compression_type",
    "content_types",
    "decompress",
    "disable_insecure_serializers",
    "dumps",
    "enable_insecure_serializers",
    "exception_from_map",
    "exception_to_map",
    "loads",
    "mark_compressed",
    "name_of",
    "register",
    "register_compression",
    "register_type",
    "types_of",
    "unmark_compressed",
    "unregister",
)
