"""The prefetch window: how many deliveries this worker may hold, and how many more it may ask for (D11)."""

cimport cython

from fastq._core.message cimport Outcome

# What "auto" aims at: each slot holds this many seconds of work, which hides the way to the
# broker and back and still leaves nothing waiting behind a task that a person would notice.
cdef double WORK_PER_SLOT = 0.02
cdef enum:
    WIDEST = 1024     # deliveries; beyond it a turn gains nothing and a crash redelivers more
    UNLIMITED = 65536  # what a multiplier of 0 comes to


@cython.final
cdef class PrefetchWindow:
    """Counts deliveries in, and settlements out.

    The limit is *multiplier* × *concurrency*; a multiplier of 0 is no limit, and "auto"
    follows the measured run time: from one delivery for each slot when tasks are long to
    1,024 in all when they take microseconds.
    """

    cdef readonly int concurrency
    cdef readonly int unsettled
    cdef readonly bint is_adaptive
    cdef readonly double runtime  # seconds, a moving average over the last tasks; 0: nothing is known
    cdef int fixed

    def __init__(self, int concurrency, multiplier="auto"):
        self.concurrency = concurrency
        self.is_adaptive = multiplier == "auto"
        if not self.is_adaptive:
            self.fixed = UNLIMITED if multiplier == 0 else max(1, int(multiplier) * concurrency)

    @property
    def limit(self) -> int:
        """How many deliveries may be held now."""
        return self._limit()

    cdef int _limit(self) noexcept:
        cdef double wanted
        if not self.is_adaptive:
            return self.fixed
        if self.runtime <= 0:
            return min(4 * self.concurrency, WIDEST)
        wanted = WORK_PER_SLOT / self.runtime * self.concurrency
        if wanted > WIDEST:
            return max(WIDEST, self.concurrency)
        return max(self.concurrency, <int> wanted)

    cpdef resize(self, int concurrency):
        """Be that of a pool of another size from now on."""
        if not self.is_adaptive and self.fixed != UNLIMITED:
            self.fixed = max(1, self.fixed // self.concurrency * concurrency)
        self.concurrency = concurrency

    cpdef int room(self, int settling=0) noexcept:
        """How many more deliveries may be asked for, in a turn that settles *settling*."""
        return max(0, self._limit() - self.unsettled + settling)

    cpdef take(self, int count):
        """Count *count* deliveries in."""
        self.unsettled += count

    cpdef settle(self, int count):
        """Count *count* settlements out."""
        self.unsettled = max(0, self.unsettled - count)

    cpdef observe(self, list outcomes):
        """Learn from the run times of *outcomes*."""
        cdef double total = 0, weight
        cdef Py_ssize_t ran = 0
        for item in outcomes:
            if (<Outcome> item).runtime > 0:
                total += (<Outcome> item).runtime
                ran += 1
        if not ran:
            return
        # A batch of microsecond tasks should count as a batch, so the weight grows with it.
        weight = 1 - 0.9 ** ran
        if self.runtime <= 0:
            self.runtime = total / ran
        else:
            self.runtime += weight * (total / ran - self.runtime)

    cpdef stretch(self, double elapsed):
        """Learn from a task that has run for *elapsed* seconds and goes on."""
        if elapsed > self.runtime:
            self.runtime = elapsed
