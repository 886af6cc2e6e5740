"""Memory that a parent shares with its children: who may start which delivery, and since when each runs.

A parent numbers what it gives to one child 0, 1, 2, ... and the child runs it in that order. A
row of the board holds the number that comes *next*: the child starts a delivery by moving it on
by one, the parent withdraws what has not started by moving it past the last one given. Both do so by
compare-and-swap, so each delivery is either started or withdrawn, and a child that died
tells which one it was running, without a word between the two processes.
"""

from libc.stdint cimport uint64_t

import mmap

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <signal.h>
    #if defined(__linux__)
    #include <sys/prctl.h>
    #endif

    /* One cache line, so that children do not slow each other. */
    typedef struct {
        uint64_t next;
        double started_at;
        char padding[48];
    } fastq_row;

    static inline uint64_t fastq_load(uint64_t *word) {
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    static inline int fastq_swap(uint64_t *word, uint64_t expected, uint64_t desired) {
        return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline int fastq_die_with_parent(void) {
    #if defined(__linux__)
        return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    #else
        return 0;
    #endif
    }
    """
    ctypedef struct fastq_row:
        uint64_t next
        double started_at
    uint64_t fastq_load(uint64_t *word)
    bint fastq_swap(uint64_t *word, uint64_t expected, uint64_t desired)
    bint fastq_die_with_parent()


def die_with_parent() -> bool:
    """Have the system kill this process when the thread that forked it ends; False where it can't (macOS)."""
    return fastq_die_with_parent()


@cython.final
cdef class Board:
    """Rows in shared memory, one per child: anonymous, which a fork shares, or that of the file *fd*."""

    cdef readonly int rows
    cdef Py_buffer _buffer  # holds the mapping
    cdef fastq_row *_rows  # borrowed from _buffer
    cdef bint _mapped

    @staticmethod
    def bytes_for(int rows) -> int:
        """The size of a file for so many *rows*."""
        return rows * sizeof(fastq_row)

    def __cinit__(self, int rows, int fd=-1):
        self._mapped = False
        if rows < 1:
            raise ValueError(f"a board has at least one row, not {rows}")
        memory = mmap.mmap(fd, rows * sizeof(fastq_row))
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._mapped = True
        self._rows = <fastq_row *> self._buffer.buf
        self.rows = rows

    def __dealloc__(self):
        if self._mapped:
            PyBuffer_Release(&self._buffer)

    cdef fastq_row *_row(self, int row) except NULL:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        return &self._rows[row]

    cpdef bint start(self, int row, uint64_t position, double now) except -1:
        """By the child: take *position* to run it from *now*, or return False if it was withdrawn."""
        cdef fastq_row *entry = self._row(row)
        # The time goes first: whoever sees the new position must not take it for the last one's.
        entry.started_at = now
        return fastq_swap(&entry.next, position, position + 1)

    cpdef uint64_t next(self, int row) except? 0:
        """The lowest position that has neither started nor been withdrawn."""
        return fastq_load(&self._row(row).next)

    cpdef double started_at(self, int row) except? -1:
        """When the last position to start did so, in the child's monotonic seconds."""
        return self._row(row).started_at

    cpdef uint64_t withdraw(self, int row, uint64_t end) except? 0:
        """By the parent: withdraw every position below *end* that has not started; returns the first."""
        cdef fastq_row *entry = self._row(row)
        cdef uint64_t first = fastq_load(&entry.next)
        while first < end and not fastq_swap(&entry.next, first, end):
            first = fastq_load(&entry.next)
        return first

    cpdef bint withdraw_from(self, int row, uint64_t first, uint64_t end) except -1:
        """By the parent: withdraw *first* to *end*, or return False when *first* is not the next one.

        Success proves that the position started last is still the one before *first*, and that
        the child starts nothing more, so it may be killed for that one alone.
        """
        return fastq_swap(&self._row(row).next, first, end)

    cpdef int reset(self, int row) except -1:
        """By the parent, before the fork: begin the row again for a new child."""
        cdef fastq_row *entry = self._row(row)
        entry.next = 0
        entry.started_at = 0
        return 0
