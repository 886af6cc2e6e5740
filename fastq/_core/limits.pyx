"""Exceptions raised in code that runs, by a signal or another thread: time limits, and the ends of tasks.

They are compiled because `disarm` must not let Python run in between: a Python function looks for
pending signals and exceptions as it is entered, and would there raise the limit of a task that has
just ended.
"""

import signal
import threading

cimport cython
from cpython.object cimport PyObject

from fastq.exceptions import SoftTimeLimitExceeded

cdef extern from "<sys/time.h>" nogil:
    struct timeval:
        long tv_sec
        long tv_usec
    struct itimerval:
        timeval it_interval
        timeval it_value
    int ITIMER_REAL
    int getitimer(int which, itimerval *value)
    int setitimer(int which, const itimerval *new_value, itimerval *old_value)

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        PyObject *async_exc
    PyThreadState *PyThreadState_Get()
    int PyThreadState_SetAsyncExc(unsigned long thread_id, PyObject *exc)
    unsigned long PyThread_get_thread_ident()

# Exceptions from other threads are raised in Python code alone, which a function of this module is not.
_python_code = eval("lambda: None")

# A timer of zero would never fire; a limit that small has passed already.
cdef double SHORTEST = 1e-6  # seconds


@cython.final
cdef class SignalTimer:
    """The soft limit of a process that runs one task at a time in its main thread (SIGALRM)."""

    cdef bint _armed
    cdef double _seconds
    cdef object _strikes  # called by the handler: what it returns is raised

    def __init__(self):
        self._strikes = None

    def install(self):
        """Take over SIGALRM. Main thread only."""
        signal.signal(signal.SIGALRM, self.expire)

    def strike(self, decide):
        """Have *decide* called in the main thread, soon, and raise there what it returns, unless None."""
        self._strikes = decide
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    cpdef arm(self, double seconds):
        """Let SoftTimeLimitExceeded be raised in the main thread after *seconds*, once."""
        self._armed = True
        self._seconds = seconds
        _set_timer(seconds if seconds > SHORTEST else SHORTEST)

    cpdef disarm(self):
        """Let it not be raised any more, from now on."""
        self._armed = False
        _set_timer(0)

    cpdef suspend(self):
        """Disarm, and return the seconds that were left; None if it was not armed."""
        cdef itimerval left
        if not self._armed:
            return None
        self._armed = False
        getitimer(ITIMER_REAL, &left)
        _set_timer(0)
        return left.it_value.tv_sec + left.it_value.tv_usec / 1e6

    def expire(self, signum, frame):
        """The handler of SIGALRM. Raises SoftTimeLimitExceeded when armed and due."""
        decide, self._strikes = self._strikes, None
        if decide is not None:
            exc = decide()
            if exc is not None:
                raise exc
            return
        if self._armed:
            self._armed = False
            raise SoftTimeLimitExceeded(self._seconds)


cdef void _set_timer(double seconds) noexcept:
    cdef itimerval timer
    timer.it_interval.tv_sec = timer.it_interval.tv_usec = 0
    timer.it_value.tv_sec = <long> seconds
    timer.it_value.tv_usec = <long> ((seconds - <long> seconds) * 1e6)
    setitimer(ITIMER_REAL, &timer, NULL)


@cython.final
cdef class ThreadLimits:
    """The soft limits of threads: which thread is to be interrupted when. No clock and no thread of its own.

    The GIL makes each method atomic.
    """

    cdef dict _deadlines  # thread id: monotonic seconds

    def __init__(self):
        self._deadlines = {}

    cpdef arm(self, double deadline):
        """Let `expire` interrupt the calling thread from *deadline* on (monotonic seconds)."""
        self._deadlines[PyThread_get_thread_ident()] = deadline

    cpdef disarm(self):
        """Let the calling thread not be interrupted any more, not even by an exception on its way."""
        cdef unsigned long thread_id = PyThread_get_thread_ident()
        if self._deadlines.pop(thread_id, None) is None:
            _drop_pending()

    cpdef suspend(self):
        """Disarm, and return the deadline of the calling thread; None if it was not armed."""
        return self._deadlines.pop(PyThread_get_thread_ident(), None)

    cpdef expire(self, double now):
        """Raise SoftTimeLimitExceeded in every thread whose deadline has come.

        Returns the next deadline, or None. A thread that blocks in C sees it when it is back in Python.
        """
        cdef list due = [thread_id for thread_id, deadline in self._deadlines.items() if deadline <= now]
        for thread_id in due:
            del self._deadlines[thread_id]
            PyThreadState_SetAsyncExc(thread_id, <PyObject *> SoftTimeLimitExceeded)
        return min(self._deadlines.values()) if self._deadlines else None


@cython.final
cdef class Strikes:
    """Ends the run of one delivery in another thread, by an exception of the class *exc*, and no other run.

    Threads keep what they run in a dict, by thread id, each as a tuple that begins with the delivery. The
    GIL makes each method atomic.
    """

    cdef object _exc
    cdef set _struck  # ids of threads that have an exception on its way, or have had it in this run

    def __init__(self, exc):
        self._exc = exc
        self._struck = set()

    def strike(self, dict running, delivery) -> bool:
        """Raise the exception in the thread that runs *delivery*; False if none does, or it was before.

        A thread that blocks in C sees it when it is back in Python.
        """
        for thread_id, run in running.items():
            if (<tuple> run)[0] is delivery:
                if thread_id in self._struck:
                    return False
                self._struck.add(thread_id)
                PyThreadState_SetAsyncExc(thread_id, <PyObject *> self._exc)
                return True
        return False

    def end(self, dict running):
        """Remove what the calling thread runs, and any exception on its way; returns it, or None."""
        cdef unsigned long thread_id = PyThread_get_thread_ident()
        if thread_id in self._struck:
            self._struck.remove(thread_id)
            _drop_pending()
        return running.pop(thread_id, None)


cdef int _drop_pending() except -1:
    """Have the exception that is on its way to the calling thread, if any, raised here, and drop it.

    Taken back by the API it would leave CPython looking for it at every call, for good.
    """
    cdef PyObject *pending = PyThreadState_Get().async_exc
    if pending == NULL:
        return 0
    kind = <object> pending
    try:
        _python_code()
    except kind:
        pass
    return 0
