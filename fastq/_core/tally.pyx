"""What became of tasks, counted by name: the numbers behind a worker's metrics."""

cimport cython

from fastq._core.message import JOBS
from fastq._core.message cimport Message, Outcome

# Upper bounds in seconds, from a task that only computes to one that runs for an hour.
BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)
# Stands for every name that no task has: whoever may send could make up any number of them.
UNKNOWN = "unknown"

cdef enum:
    RANGES = 16  # one more than there are bounds

cdef double bounds[RANGES - 1]
for _at, _bound in enumerate(BOUNDS):
    bounds[_at] = _bound


@cython.final
cdef class Histogram:
    """How often values fell in each of the ranges that `BOUNDS` part."""

    cdef long long ranges[RANGES]
    cdef readonly double total  # seconds

    @property
    def counts(self):
        """How many values each range has."""
        return [self.ranges[at] for at in range(RANGES)]

    cpdef observe(self, double seconds):
        """Count one value."""
        cdef int at = 0
        while at < RANGES - 1 and seconds > bounds[at]:
            at += 1
        self.ranges[at] += 1
        self.total += seconds


@cython.final
cdef class TaskTally:
    """What became of the tasks of one name."""

    cdef readonly dict states      # how many ended in each
    cdef readonly Histogram runs   # from start to end
    cdef readonly Histogram waits  # from when it was sent, or due if that is later, to its start

    def __init__(self):
        self.states = {}
        self.runs = Histogram()
        self.waits = Histogram()


@cython.final
cdef class Tally:
    """Counts outcomes. Written by the loop's thread; others may read it meanwhile.

    *known* holds the names that are told apart. *ready_since* says since when a message waits.
    """

    cdef readonly dict tasks
    cdef object known
    cdef object ready_since

    def __init__(self, known, ready_since):
        self.known = known
        self.ready_since = ready_since
        self.tasks = {}

    def ended(self, list outcomes, double now):
        """Count *outcomes* that ended by *now*, in unix seconds, but for those that run again."""
        cdef Outcome outcome
        cdef Message message
        cdef TaskTally tally
        for item in outcomes:
            outcome = <Outcome> item
            message = outcome.delivery.message
            if outcome.state is None or message is None or message.task in JOBS:
                continue
            tally = self._tally(message.task)
            tally.states[outcome.state] = tally.states.get(outcome.state, 0) + 1
            if outcome.runtime > 0:
                tally.runs.observe(outcome.runtime)
                sent_ms = message.header("timestamp_in_ms")
                if sent_ms is not None:
                    is_plain = type(sent_ms) is int and message.header("eta") is None
                    since = sent_ms / 1000 if is_plain else self.ready_since(message)
                    if since is not None:  # clocks may differ
                        tally.waits.observe(max(now - outcome.runtime - <double> since, 0.0))

    cdef TaskTally _tally(self, str name):
        tally = self.tasks.get(name)
        if tally is None:
            name = name if name in self.known else UNKNOWN
            tally = self.tasks.setdefault(name, TaskTally())
        return <TaskTally> tally
