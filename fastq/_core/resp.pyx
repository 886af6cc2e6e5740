"""The Redis protocol, RESP2 and RESP3, without sockets: commands into one buffer, bytes into replies."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy
cimport cython

import hiredis

from fastq.exceptions import OperationalError

cdef enum:
    FIRST_BYTES = 2048  # one message of usual size fits without growing
    KEPT_BYTES = 1048576  # a buffer that one huge batch made larger than this is given back
    # The longest header: a type byte, 20 digits of a 64-bit length, CR LF.
    HEADER_BYTES = 24

Argument = bytes | str | int | float  # what a command may hold


cdef class _NoReply:
    def __repr__(self):
        return "NO_REPLY"


NO_REPLY = _NoReply()  # "not enough bytes yet": None and False are replies


cdef int format_number(char *end, long long value) noexcept:
    """Write *value* in decimal so that it ends right before *end*; returns its length."""
    cdef unsigned long long rest = <unsigned long long> value
    cdef char *at = end
    if value < 0:
        rest = 0 - rest
    while True:
        at -= 1
        at[0] = <char> (48 + rest % 10)  # 48 is the digit 0
        rest //= 10
        if rest == 0:
            break
    if value < 0:
        at -= 1
        at[0] = b"-"
    return <int> (end - at)


@cython.final
cdef class Packer:
    """A buffer of packed commands. An argument is bytes, str (sent in UTF-8), int or float."""

    def __cinit__(self):
        self.data = <char *> malloc(FIRST_BYTES)
        if self.data is NULL:
            raise MemoryError
        self.size = FIRST_BYTES
        self.used = 0

    def __dealloc__(self):
        free(self.data)

    def __len__(self):
        return self.used

    cdef int _reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t size = self.size
        cdef char *data
        if self.used + more <= size:
            return 0
        while size < self.used + more:
            size *= 2
        data = <char *> realloc(self.data, size)
        if data is NULL:
            raise MemoryError
        self.data = data
        self.size = size
        return 0

    cdef int clear(self) except -1:
        cdef char *data
        self.used = 0
        if self.size > KEPT_BYTES:
            data = <char *> realloc(self.data, FIRST_BYTES)
            if data is not NULL:
                self.data = data
                self.size = FIRST_BYTES
        return 0

    cdef int put_raw(self, const char *source, Py_ssize_t length) except -1:
        self._reserve(length)
        memcpy(self.data + self.used, source, length)
        self.used += length
        return 0

    cdef int put_header(self, char kind, Py_ssize_t count) except -1:
        cdef char digits[20]
        cdef int length = format_number(digits + 20, count)
        cdef char *at
        self._reserve(HEADER_BYTES)
        at = self.data + self.used
        at[0] = kind
        memcpy(at + 1, digits + 20 - length, length)
        at[length + 1] = b"\r"
        at[length + 2] = b"\n"
        self.used += length + 3
        return 0

    cdef int put_bulk(self, const char *source, Py_ssize_t length) except -1:
        self._reserve(HEADER_BYTES + length + 2)
        self.put_header(b"$", length)
        memcpy(self.data + self.used, source, length)
        self.used += length
        self.data[self.used] = b"\r"
        self.data[self.used + 1] = b"\n"
        self.used += 2
        return 0

    cdef int put_number(self, long long value) except -1:
        cdef char digits[20]
        cdef int length = format_number(digits + 20, value)
        return self.put_bulk(digits + 20 - length, length)

    cdef int put(self, value) except -1:
        cdef const char *text
        cdef Py_ssize_t length = 0
        if type(value) is bytes:
            return self.put_bulk(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        if isinstance(value, str):
            text = PyUnicode_AsUTF8AndSize(value, &length)
            return self.put_bulk(text, length)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = repr(value).encode("ascii")
        elif not isinstance(value, bytes):
            raise TypeError(f"Redis takes bytes, str, int and float, not {type(value).__name__}: {value!r}")
        return self.put_bulk(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))

    def command(self, *arguments):
        """Append one command."""
        self.put_header(b"*", len(arguments))
        for value in arguments:
            self.put(value)

    def push(self, name, key, list values):
        """Append the variadic command *name* of *key* and *values*, such as LPUSH."""
        self.put_header(b"*", 2 + len(values))
        self.put(name)
        self.put(key)
        for value in values:
            self.put(value)

    cpdef bytes take(self):
        """All the bytes appended since the last call."""
        cdef bytes packed = PyBytes_FromStringAndSize(self.data, self.used)
        self.clear()
        return packed


def pack(*arguments) -> bytes:
    """One command as bytes."""
    packer = Packer()
    packer.command(*arguments)
    return packer.take()


def pack_many(commands) -> bytes:
    """Commands, each a sequence of arguments, as bytes for one write."""
    packer = Packer()
    for arguments in commands:
        packer.command(*arguments)
    return packer.take()


@cython.final
cdef class Replies:
    """Reads replies out of a stream of bytes and keeps RESP3's push messages apart.

    `pushes` collects the push messages, each a list, until the caller empties it.
    Text comes as bytes. An error of the server is a reply: an instance of
    `hiredis.ReplyError`, alone or inside an array.
    """

    cdef object _reader
    cdef object _gets
    cdef readonly list pushes

    def __init__(self):
        self._reader = hiredis.Reader(notEnoughData=NO_REPLY)
        self._gets = self._reader.gets
        self.pushes = []

    def feed(self, data):
        """Add what was received, cut anywhere."""
        self._reader.feed(data)

    def next_reply(self):
        """The next reply in order, or `NO_REPLY` until more bytes come.

        Push messages before it go to `pushes`. Raises `OperationalError` if the bytes
        are no Redis protocol; the connection is of no use then.
        """
        cdef object reply
        while True:
            try:
                reply = self._gets()
            except hiredis.ProtocolError as exc:
                raise OperationalError(f"what answers there does not speak Redis' protocol: {exc}") from exc
            if type(reply) is not hiredis.PushNotification:
                return reply
            self.pushes.append(reply)
