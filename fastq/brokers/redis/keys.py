"""Every key that fastq uses in Redis, one function each. *prefix* is Celery's ``global_keyprefix``.

Celery's own keys (docs/PROTOCOL.md §3.1, §5.1) are the lists of ready messages and
the results. All others are fastq's. Those of one queue share its hash slot by the braces.
"""

from __future__ import annotations


def ready(prefix: str, queue: str, step: int, sep: str) -> str:
    """Celery's list of ready messages of one priority *step*; step 0 is the bare name (§3.2)."""
    return f"{prefix}{queue}{sep}{step}" if step else f"{prefix}{queue}"


def claims(prefix: str, queue: str, epoch: str) -> str:
    """Hash of what one worker holds: claim id to envelope."""
    return f"{prefix}fastq:{{{queue}}}:claims:{epoch}"


def started(prefix: str, queue: str, epoch: str) -> str:
    """Set of the claim ids of redelivered messages that this worker has begun to run."""
    return f"{prefix}fastq:{{{queue}}}:started:{epoch}"


def delayed(prefix: str, queue: str) -> str:
    """Sorted set of what is not due: ``<priority step>:<envelope>`` by unix time in seconds.

    Of several with the same bytes each further one has a name: ``<priority step>~<name>:<envelope>``.
    """
    return f"{prefix}fastq:{{{queue}}}:delayed"


def dead(prefix: str, queue: str) -> str:
    """Sorted set of the dead set's entry ids by the unix time of their death in seconds."""
    return f"{prefix}fastq:{{{queue}}}:dead"


def dead_entries(prefix: str, queue: str) -> str:
    """Hash of the dead set: entry id to ``<reason> NUL <envelope>``."""
    return f"{prefix}fastq:{{{queue}}}:dead:entries"


def turn(prefix: str, epoch: str) -> str:
    """Hash of a worker that holds its claims: ``done`` is its last turn, up to ``fence`` none may follow."""
    return f"{prefix}fastq:turn:{epoch}"


def leases(prefix: str) -> str:
    """Sorted set of worker epochs by the unix time in milliseconds at which their leases run out."""
    return f"{prefix}fastq:leases"


def workers(prefix: str) -> str:
    """Hash of worker epoch to a JSON map of its node name and the keys to restore its claims with."""
    return f"{prefix}fastq:workers"


def queues(prefix: str) -> str:
    """Set of the names of the queues that a fastq client or worker has used."""
    return f"{prefix}fastq:queues"


def exchanges(prefix: str) -> str:
    """Hash of exchange to its type, which Celery's processes know by declaring it."""
    return f"{prefix}fastq:exchanges"


def bindings(prefix: str, exchange: str) -> str:
    """Hash of the bindings of a fanout or headers exchange: JSON ``[queue, key, arguments]`` to its owner.

    That is the epoch of the one worker whose queue it is, or empty.
    """
    return f"{prefix}fastq:bindings:{exchange}"


def heard(prefix: str, queue: str, tag: str) -> str:
    """Mark, for a minute, that a worker of *queue* has put the broadcast *tag* into it."""
    return f"{prefix}fastq:{{{queue}}}:heard:{tag}"


def revoked(prefix: str) -> str:
    """Sorted set of the ids of revoked tasks by the unix time in seconds until which they are."""
    return f"{prefix}fastq:revoked"


def paused(prefix: str) -> str:
    """Set of the names of paused queues."""
    return f"{prefix}fastq:paused"


def beat_lease(prefix: str, app: str) -> str:
    """The lease of the beats of an application: ``<holder> <renewals>``."""
    return f"{prefix}fastq:beat:{{{app}}}:lease"


def beat_facts(prefix: str, app: str) -> str:
    """Hash: ``version`` of the entries, ``alive`` (unix seconds), ``served`` and the ``names`` in JSON."""
    return f"{prefix}fastq:beat:{{{app}}}:facts"


def beat_entries(prefix: str, app: str) -> str:
    """Hash of the entries that were added at run time: name to a JSON map."""
    return f"{prefix}fastq:beat:{{{app}}}:entries"


def beat_states(prefix: str, app: str) -> str:
    """Hash of name to ``<number of the last run> <state>``."""
    return f"{prefix}fastq:beat:{{{app}}}:states"


def beat_paused(prefix: str, app: str) -> str:
    """Set of the names of entries that are paused."""
    return f"{prefix}fastq:beat:{{{app}}}:paused"


def kombu_bindings(prefix: str, exchange: str) -> str:
    """Celery's set of the bindings of a direct or topic exchange (§3.5)."""
    return f"{prefix}_kombu.binding.{exchange}"


def kombu_permanent_bindings(prefix: str, exchange: str) -> str:
    """Those of that set that do not expire."""
    return f"{prefix}_kombu.binding_permanent.{exchange}"


def kombu_binding_deadlines(prefix: str) -> str:
    """Celery's sorted set of exchanges by the unix time in milliseconds at which their bindings expire."""
    return f"{prefix}_kombu.binding_deadlines"


def result(prefix: str, task_id: str) -> str:
    """Celery's result document, and the channel that announces it."""
    return f"{prefix}celery-task-meta-{task_id}"


def group(prefix: str, group_id: str) -> str:
    """Celery's document of a saved group."""
    return f"{prefix}celery-taskset-meta-{group_id}"


def success(prefix: str, task_id: str) -> str:
    """SHA-1 of a SUCCESS document that does not show its state; results.lua makes the same name."""
    return f"{prefix}fastq:success:{task_id}"


def chain(prefix: str, chain_id: str) -> str:
    """Hash of the steps of a long chain that are still to come: number of the block to its steps in JSON."""
    return f"{prefix}fastq:chain:{chain_id}"
