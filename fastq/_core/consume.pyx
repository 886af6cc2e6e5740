"""The gate between broker and pool: which deliveries run now, and what becomes of the others.

Pure: the time is an argument, and what is decided comes back as outcomes.
"""

import logging
from datetime import datetime, timezone

cimport cython

from fastq import serialization, signals
from fastq._core.message import upgrade_v1
from fastq._core.message cimport BURY, PARK, Delivery, Message, Outcome
from fastq._core.request import Context
from fastq.exceptions import ContentDisallowed, DecodeError, NotRegistered

logger = logging.getLogger("fastq.worker.gate")

# Seconds; above it a time limit is no limit any more, and timers of the system overflow.
cdef double LONGEST_LIMIT = 1e9


def parse_instant(text) -> float:
    """The unix time of an ISO-8601 *text*; a naive one is in UTC (docs/PROTOCOL.md §1.2).

    Raises `DecodeError`.
    """
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00") if text.endswith("Z") else text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return when.timestamp()
    except (ValueError, TypeError, AttributeError, OverflowError) as exc:
        raise DecodeError(f"{text!r} is not an ISO-8601 time: {exc}") from None


@cython.final
cdef class Gate:
    """Lets deliveries through to the pool, or says what becomes of them instead.

    *rates* maps a task's name to an object with ``wait(id, now) -> float``, the seconds
    until the task may start. *revoked* holds the ids of tasks that must not start, *stamps* by the name of a
    stamp the values whose tasks must not, each with the unix time until which that is so. *counts*
    says how many messages of each task were let through. All but the last may be changed by any thread.
    """

    cdef readonly object tracer
    cdef readonly dict rates
    cdef readonly dict revoked
    cdef readonly dict stamps
    cdef readonly dict counts
    cdef object tasks
    cdef object app
    cdef set unknown   # names of unknown tasks that the log has

    def __init__(self, app, tracer, dict rates=None):
        self.app = app
        self.tracer = tracer
        self.tasks = app.tasks
        self.rates = {} if rates is None else rates
        self.revoked = {}
        self.stamps = {}
        self.counts = {}
        self.unknown = set()

    def admit(self, list deliveries, double now, list settled) -> list:
        """The *deliveries* that run now, in order; an outcome for each other one is appended to *settled*.

        *now* is the unix time in seconds.
        """
        cdef list ready = []
        cdef Delivery delivery
        cdef bint logs = logger.isEnabledFor(20)
        cdef str name = None
        cdef Py_ssize_t count = 0
        for item in deliveries:
            delivery = <Delivery> item
            outcome = self._judge(delivery, now)
            if outcome is not None:
                settled.append(outcome)
                continue
            ready.append(delivery)
            if delivery.message.task != name:
                if count:
                    self._count(name, count)
                name, count = delivery.message.task, 0
            count += 1
            if signals.task_received.receivers:
                signals.task_received.send(sender=self, request=Context(self.tasks[delivery.message.task],
                                                                        delivery.message))
            if logs:
                logger.info("Task %s[%s] received", delivery.message.task, delivery.message.id)
        if count:
            self._count(name, count)
        return ready

    cdef _count(self, str name, Py_ssize_t count):
        self.counts[name] = self.counts.get(name, 0) + count

    def revoke(self, Delivery delivery):
        """The outcome of *delivery*, which was let through and has not started, if it was revoked."""
        if self._is_revoked(delivery.message):
            return self._revoked(delivery, "revoked")
        return None

    def is_revoked(self, Delivery delivery) -> bool:
        """Whether the task of *delivery* was revoked."""
        return self._is_revoked(delivery.message)

    cdef bint _is_revoked(self, Message message) except -1:
        if self.revoked and message.id in self.revoked:
            return True
        return bool(self.stamps) and self._is_stamped(message)

    cdef bint _is_stamped(self, Message message) except -1:
        """Whether a stamp of *message* has a value that was revoked."""
        stamped = message.headers.get("stamps")
        if type(stamped) is not dict:
            return False
        for name, values in list(self.stamps.items()):
            value = (<dict> stamped).get(name)
            for each in value if isinstance(value, (list, tuple)) else (value,):
                if str(each) in values:
                    return True
        return False

    cdef object _judge(self, Delivery delivery, double now):
        """The outcome of a delivery that does not run now, or None."""
        cdef Message message = delivery.message
        if message is None:
            return self._bury(delivery, delivery.error)
        try:
            if not message.task:
                self._upgrade(message)
            if message.task not in self.tasks:
                return self._unknown(delivery)
            _check_types(message)
            expires = message.header("expires")
            if expires is not None and parse_instant(expires) <= now:
                return self._revoked(delivery, "expired")
            if (self.revoked or self.stamps) and self._is_revoked(message):
                return self._revoked(delivery, "revoked")
            eta = message.header("eta")
            if eta is not None:
                due = parse_instant(eta)
                if due > now:
                    return Outcome(delivery, PARK, until=due)
            if self.rates:
                bucket = self.rates.get(message.task)
                if bucket is not None:
                    wait = bucket.wait(message.id, now)
                    if wait > 0:
                        return Outcome(delivery, PARK, until=now + wait)
        except (DecodeError, ContentDisallowed) as exc:
            logger.error(
                "Message %s[%s] can't be run and goes to the dead set: %s", message.task, message.id, exc
            )
            self._reject(message, exc)
            return self.tracer.refused(delivery, exc)
        return None

    cdef _reject(self, message, exc):
        """Tell the receivers of ``task_rejected``; *message* is bytes if it could not be decoded."""
        if signals.task_rejected.receivers:
            signals.task_rejected.send(sender=self, message=message, exc=exc)

    cdef _upgrade(self, Message message):
        """Give a v1 *message* the headers and the body of v2."""
        body = upgrade_v1(message, self.app.load_body(message))
        message.headers.pop("compression", None)
        message.content_type, message.content_encoding, message.body = serialization.dumps(
            body, serialization.name_of(message.content_type))

    cdef object _bury(self, Delivery delivery, str reason):
        logger.error(
            "A message of queue %r can't be read and goes to the dead set: %s", delivery.queue, reason
        )
        self._reject(delivery.raw, DecodeError(reason))
        return Outcome(delivery, BURY, reason=reason)

    cdef object _unknown(self, Delivery delivery):
        cdef str name = delivery.message.task
        if name not in self.unknown:
            self.unknown.add(name)
            logger.error(
                "Received a task of the unknown name %r: its messages go to the dead set, from where "
                "`fastq dead retry` sends them again. Was its module imported?", name)
        if signals.task_unknown.receivers:
            exc = NotRegistered(name)
            signals.task_unknown.send(
                sender=self, message=delivery.message, exc=exc, name=name, id=delivery.message.id
            )
        return self.tracer.refused(delivery, NotRegistered(name))

    cdef object _revoked(self, Delivery delivery, str why):
        logger.info("Discarding %s task: %s[%s]", why, delivery.message.task, delivery.message.id)
        if signals.task_revoked.receivers:
            signals.task_revoked.send(
                sender=self.tasks[delivery.message.task],
                request=Context(None, delivery.message),
                terminated=False,
                signum=None,
                expired=why == "expired",
            )
        return self.tracer.revoked(delivery, why)


cdef _check_types(Message message):
    """Raise `DecodeError` for a header that has not the type of PROTOCOL.md §1.2."""
    retries = message.header("retries")
    if retries is not None and (type(retries) is not int or retries < 0):
        raise DecodeError(f"the header retries is {retries!r}, not a count")
    limits = message.header("timelimit")
    if limits is not None:
        if type(limits) is not list or len(<list> limits) != 2:
            raise DecodeError(f"the header timelimit is {limits!r}, not [hard, soft]")
        for limit in <list> limits:
            if limit is not None and (type(limit) not in (int, float) or not 0 <= limit <= LONGEST_LIMIT):
                raise DecodeError(f"the header timelimit holds {limit!r}, not seconds")
