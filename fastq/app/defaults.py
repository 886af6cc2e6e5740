"""The table of settings: name, kind, default and meaning of each."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastq.app.kinds import (
    ANY,
    BOOL,
    BYTES,
    CLASS,
    COUNT,
    COUNT_OR_AUTO,
    ID,
    INT,
    LEVEL,
    MAP,
    NAMES,
    NUMBER,
    PATH,
    QUEUES,
    RATE,
    SECONDS,
    SOME_SECONDS,
    SSL,
    STR,
    TIMEZONE,
    UMASK,
    URL,
    Kind,
    one_of,
)

LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"

# The first word of a setting gives the beginning of its old upper-case name; where it is not
# listed, the old name is the new one in upper case (broker_url, BROKER_URL).
_OLD_PREFIXES = {
    "task": "CELERY",
    "worker": "CELERYD",
    "beat": "CELERYBEAT",
    **{
        group: f"CELERY_{group.upper()}"
        for group in (
            "arangodb",
            "cache",
            "couchbase",
            "elasticsearch",
            "event",
            "mongodb",
            "redis",
            "result",
            "security",
        )
    },
}


class Setting(NamedTuple):
    """One setting. None is accepted when it is the default or *nullable*; a *secret* is never shown.

    Where it is accepted, for the sake of Celery's configurations, and nothing reads it,
    *unused* says why.
    """

    name: str
    kind: Kind
    default: Any
    doc: str
    old: tuple[str, ...] = ()  # where they don't follow from the name
    nullable: bool = False
    secret: bool = False
    unused: str = ""

    @property
    def old_names(self) -> tuple[str, ...]:
        """The upper-case names of Celery 3."""
        if self.old:
            return self.old
        group, _, rest = self.name.partition("_")
        prefix = _OLD_PREFIXES.get(group)
        return (f"{prefix}_{rest.upper()}" if prefix else self.name.upper(),)


S = Setting

# Why a setting is accepted and not used: its part is still to come, ...
CANVAS = "this version has no canvas"
CONTROL = "this version's beat has no remote control"
RABBITMQ = "this version does not serve RabbitMQ"
RPC_EXCHANGE = "results go to the client's queue by the default exchange, as Celery 5 sends them"
SECURITY = "this version does not sign messages"
# ... or fastq is made in another way.
ONE_WORKER = "a worker of fastq has no parts to exchange"


def _unused(why: str, *settings: Setting) -> tuple[Setting, ...]:
    return tuple(setting._replace(unused=why) for setting in settings)


_GENERAL = (
    S(
        "accept_content",
        NAMES,
        ("json",),
        "Serializers, or content types, of messages that are read.",
        old=("CELERY_ACCEPT_CONTENT",),
    ),
    S(
        "enable_utc",
        BOOL,
        True,
        "Where timezone is not set: UTC, or if off the system's zone.",
        old=("ENABLE_UTC", "CELERY_ENABLE_UTC"),
    ),
    S("imports", NAMES, (), "Modules that a worker imports when it starts.", old=("CELERY_IMPORTS",)),
    S("include", NAMES, (), "More modules that a worker imports when it starts.", old=("CELERY_INCLUDE",)),
    S("override_backends", MAP, None, "Result backends by URL scheme, as 'module:Class'."),
    S(
        "result_accept_content",
        NAMES,
        None,
        "As accept_content, for results; None: the same.",
        old=("RESULT_ACCEPT_CONTENT", "CELERY_RESULT_ACCEPT_CONTENT"),
    ),
    S(
        "timezone",
        TIMEZONE,
        None,
        "The time zone of app.now() and of schedules; None: as enable_utc says.",
        old=("CELERY_TIMEZONE",),
    ),
)

_BROKER = (
    S(
        "broker_channel_error_retry",
        BOOL,
        False,
        "Reconnect after an error of a channel, too.",
        unused=RABBITMQ,
    ),
    S(
        "broker_connection_max_retries",
        COUNT,
        None,
        "Attempts in a row to connect, before a worker gives up; None or 0: without end.",
    ),
    S("broker_connection_retry", BOOL, True, "Connect again when the connection is lost."),
    S(
        "broker_connection_retry_on_startup",
        BOOL,
        None,
        "Keep trying when a worker starts; None: as broker_connection_retry.",
    ),
    S(
        "broker_connection_timeout",
        SECONDS,
        4,
        "Seconds for one attempt to connect; 0 or None: the system's, 127.",
        nullable=True,
    ),
    S(
        "broker_failover_strategy",
        CLASS,
        None,
        "The order of several brokers: 'round-robin', 'shuffle' or a function.",
    ),
    S(
        "broker_heartbeat",
        SECONDS,
        120,
        "Seconds between AMQP heartbeats; 0 or None: none.",
        nullable=True,
    ),
    S(
        "broker_heartbeat_checkrate",
        NUMBER,
        3.0,
        "How often heartbeats are checked in that time.",
        unused=RABBITMQ,
    ),
    S("broker_host", STR, None, "The broker's host, where broker_url is not given."),
    S("broker_login_method", STR, None, "The AMQP login method; None: PLAIN."),
    S(
        "broker_native_delayed_delivery_queue_type",
        one_of("classic", "quorum"),
        "quorum",
        "The type of RabbitMQ's queues for delayed messages.",
    ),
    S("broker_password", STR, None, "The broker's password, where broker_url is not given.", secret=True),
    S(
        "broker_pool_acquire_timeout",
        SECONDS,
        None,
        "Seconds to wait for one of broker_pool_limit; None: task_publish_deadline.",
    ),
    S(
        "broker_pool_limit",
        COUNT,
        10,
        "Connections for publishing; 0 or None: no limit, and none is kept.",
        nullable=True,
    ),
    S("broker_port", COUNT, None, "The broker's port, where broker_url is not given."),
    S("broker_read_url", URL, None, "The broker that is consumed from; None: broker_url."),
    S("broker_transport", STR, None, "The broker's scheme, where broker_url is not given."),
    S("broker_transport_options", MAP, {}, "Options of the broker's driver."),
    S("broker_url", URL, None, "The broker; None: the embedded SQLite file of the application."),
    S("broker_use_ssl", SSL, False, "Use TLS to the broker, with these options."),
    S("broker_user", STR, None, "The broker's user, where broker_url is not given."),
    S("broker_vhost", STR, None, "The broker's virtual host, where broker_url is not given."),
    S("broker_write_url", URL, None, "The broker that is published to; None: broker_url."),
)

_TASK = (
    S("task_acks_late", BOOL, True, "Acknowledge when a task is done; off: before it runs, so at most once."),
    S("task_acks_on_failure", BOOL, None, "Acknowledge a task that failed; None: as the next one."),
    S("task_acks_on_failure_or_timeout", BOOL, True, "Acknowledge a task that failed or timed out."),
    S("task_acks_on_timeout", BOOL, None, "Acknowledge a task that timed out; None: as the one above."),
    S(
        "task_allow_error_cb_on_chord_header",
        BOOL,
        False,
        "A chord's link_error holds for its header, too.",
    ),
    S("task_always_eager", BOOL, False, "Run tasks in place instead of sending them."),
    S("task_annotations", ANY, None, "Attributes to set on tasks, by task name."),
    S(
        "task_chain_block",
        COUNT_OR_AUTO,
        "auto",
        "Steps of a chain in a message, others in the backend; 0: all; 'auto': 64 where no Celery worker is.",
    ),
    S(
        "task_compression",
        STR,
        None,
        "How task messages are compressed; None: not.",
        old=("CELERY_MESSAGE_COMPRESSION",),
    ),
    S(
        "task_create_missing_queue_exchange_type",
        STR,
        None,
        "Exchange type of queues that are not declared.",
    ),
    S(
        "task_create_missing_queue_type",
        one_of("classic", "quorum"),
        "classic",
        "Queue type of queues that are not declared.",
    ),
    S("task_create_missing_queues", BOOL, True, "Create queues that tasks are sent to and nobody declared."),
    S(
        "task_default_delivery_mode",
        one_of(2, 1, "persistent", "transient"),
        2,
        "2 or 'persistent': messages outlive a restart of the broker; 1 or 'transient': not.",
    ),
    S("task_default_exchange", STR, None, "Exchange of tasks without a route; None: task_default_queue."),
    S("task_default_exchange_type", STR, "direct", "Exchange type of tasks without a route."),
    S("task_default_priority", COUNT, None, "Priority of tasks that have none; 0 to 9 or more."),
    S("task_default_queue", STR, "celery", "Queue of tasks without a route."),
    S(
        "task_default_queue_type",
        one_of("classic", "quorum"),
        "classic",
        "Type of the default queue.",
    ),
    S("task_default_rate_limit", RATE, None, "Rate limit of tasks that have none, such as '100/m'."),
    S("task_default_routing_key", STR, None, "Routing key without a route; None: task_default_queue."),
    S(
        "task_eager_propagates",
        BOOL,
        False,
        "Eager tasks raise their errors.",
        old=("CELERY_EAGER_PROPAGATES_EXCEPTIONS",),
    ),
    S("task_ignore_result", BOOL, False, "Tasks store no results."),
    S("task_inherit_parent_priority", BOOL, False, "Tasks sent by a task have its priority."),
    S("task_max_redeliveries", COUNT, 3, "How often a task whose worker died runs again, before it is dead."),
    S(
        "task_protocol",
        one_of(2),
        2,
        "Version of the message protocol that is written; version 1 is read, too, but not written.",
        old=("CELERY_TASK_PROTOCOL",),
    ),
    S("task_publish_deadline", SOME_SECONDS, 5.0, "Seconds in which a message is sent, retries included."),
    S(
        "task_publish_retry",
        BOOL,
        True,
        "Try again when a message can't be sent.",
        old=("CELERY_TASK_PUBLISH_RETRY",),
    ),
    S(
        "task_publish_retry_policy",
        MAP,
        None,
        "How often and when sending is tried again; None: until task_publish_deadline.",
        old=("CELERY_TASK_PUBLISH_RETRY_POLICY",),
        nullable=True,
    ),
    S(
        "task_queue_max_priority",
        COUNT,
        None,
        "Default x-max-priority of RabbitMQ's queues.",
    ),
    S("task_queues", QUEUES, None, "The queues that workers consume; None: the default queue."),
    S(
        "task_reject_on_worker_lost",
        BOOL,
        None,
        "A task whose process died runs again (None, True) or fails (False).",
    ),
    S("task_remote_tracebacks", BOOL, False, "Errors from results show the worker's traceback."),
    S("task_repr_maxlevels", COUNT, 3, "Nesting depth of the arguments shown in events and logs."),
    S(
        "task_retry_on_worker_lost",
        BOOL,
        False,
        "A task whose process died is retried by its retry policy.",
    ),
    S("task_routes", ANY, None, "Where tasks go: a dict by name or pattern, a function, or a list of these."),
    S(
        "task_send_sent_event",
        BOOL,
        False,
        "Send a task-sent event for every task.",
        old=("CELERY_SEND_TASK_SENT_EVENT",),
    ),
    S(
        "task_send_timestamp",
        BOOL,
        False,
        "Messages tell when they were sent (header timestamp_in_ms), so that waiting times are known.",
    ),
    S("task_serializer", STR, "json", "Serializer of task messages.", old=("CELERY_TASK_SERIALIZER",)),
    S(
        "task_soft_time_limit",
        SECONDS,
        None,
        "Seconds after which SoftTimeLimitExceeded is raised in a task.",
        old=("CELERYD_TASK_SOFT_TIME_LIMIT",),
    ),
    S("task_store_eager_result", BOOL, False, "Eager tasks store their results."),
    S("task_store_errors_even_if_ignored", BOOL, False, "Store errors of tasks that store no results."),
    S(
        "task_time_limit",
        SECONDS,
        None,
        "Seconds after which a task is ended.",
        old=("CELERYD_TASK_TIME_LIMIT",),
    ),
    S("task_track_started", BOOL, False, "Store the state STARTED when a task begins."),
)

_WORKER = (
    S("worker_agent", STR, None, "The agent.", unused=ONE_WORKER),
    S(
        "worker_autoscaler",
        CLASS,
        "celery.worker.autoscale:Autoscaler",
        "What grows and shrinks the pool.",
        unused="a worker keeps the size of its pool",
    ),
    S(
        "worker_cancel_long_running_tasks_on_connection_loss",
        BOOL,
        False,
        "End running tasks that another worker has taken over after a lost connection.",
    ),
    S("worker_concurrency", COUNT_OR_AUTO, None, "Tasks that run at once; None: one per CPU."),
    S(
        "worker_consumer",
        CLASS,
        "celery.worker.consumer:Consumer",
        "The class that consumes.",
        unused=ONE_WORKER,
    ),
    S(
        "worker_deduplicate_successful_tasks",
        BOOL,
        False,
        "A redelivered task that succeeded runs no more.",
    ),
    S("worker_detect_quorum_queues", BOOL, True, "Look whether queues are quorum queues.", unused=RABBITMQ),
    S(
        "worker_direct",
        BOOL,
        False,
        "Every worker has its own queue, NODE.dq2, bound to exchange C.dq2 by the key NODE.",
        old=("CELERY_WORKER_DIRECT",),
    ),
    S("worker_disable_prefetch", BOOL, False, "Take a message only when a slot is free."),
    S("worker_disable_rate_limits", BOOL, False, "Heed no rate limits.", old=("CELERY_DISABLE_RATE_LIMITS",)),
    S(
        "worker_enable_prefetch_count_reduction",
        BOOL,
        True,
        "Take fewer messages after a reconnect.",
        unused="claims outlive a reconnect, so nothing is taken twice",
    ),
    S(
        "worker_enable_remote_control",
        BOOL,
        True,
        "Answer remote control commands.",
        old=("CELERY_ENABLE_REMOTE_CONTROL",),
    ),
    S(
        "worker_enable_soft_shutdown_on_idle",
        BOOL,
        False,
        "Wait the soft shutdown's time when idle, too.",
        unused="an idle worker holds nothing that could still end",
    ),
    S(
        "worker_eta_task_limit",
        COUNT,
        None,
        "Tasks that are not due and a worker holds.",
        unused="tasks that are not due wait in the broker",
    ),
    S(
        "worker_executable",
        PATH,
        None,
        "The Python that runs a detached worker.",
        unused="a detached worker is a fork of the command",
    ),
    S("worker_gid", ID, None, "Group that a worker runs as."),
    S("worker_hijack_root_logger", BOOL, True, "Setting logging up removes the root logger's handlers."),
    S("worker_lease", SOME_SECONDS, 30.0, "Seconds until a silent worker's claims go to others."),
    S("worker_log_color", BOOL, None, "Colour the log; None: on a terminal."),
    S("worker_log_datefmt", STR, None, "Format of %(asctime)s."),
    S("worker_log_format", STR, LOG_FORMAT, "Format of log lines."),
    S("worker_logfile", PATH, None, "The log file; None: standard error."),
    S(
        "worker_lost_wait",
        SECONDS,
        10.0,
        "Seconds until a process that died is lost.",
        old=("CELERYD_WORKER_LOST_WAIT",),
        unused="a dead process is seen at once",
    ),
    S("worker_max_memory_per_child", COUNT, None, "KiB of memory after which a process is replaced."),
    S("worker_max_tasks_per_child", COUNT, None, "Tasks after which a process is replaced."),
    S(
        "worker_metrics",
        STR,
        None,
        "[HOST:]PORT where Prometheus finds a worker's metrics; loopback without HOST; None: nowhere.",
    ),
    S("worker_pidfile", PATH, None, "File that holds the worker's process id."),
    S("worker_pool", CLASS, "prefork", "How tasks run: prefork, threads, gevent, asyncio, solo, ..."),
    S(
        "worker_pool_putlocks",
        BOOL,
        True,
        "Send no more to the pool than it has slots.",
        unused="a child is given what it can run soon, never more",
    ),
    S("worker_pool_restarts", BOOL, False, "Allow the remote control command pool_restart."),
    S(
        "worker_pool_start_method",
        one_of("fork", "spawn"),
        "fork",
        "How processes start: of one that has the app, or each afresh.",
    ),
    S(
        "worker_prefetch_multiplier",
        COUNT_OR_AUTO,
        "auto",
        "Messages taken ahead, times the concurrency; 0: no limit; 'auto': by the run time of tasks.",
    ),
    S("worker_proc_alive_timeout", SECONDS, 4.0, "Seconds in which a new process must be ready."),
    S(
        "worker_redirect_stdouts",
        BOOL,
        True,
        "What tasks print goes to the log.",
        old=("CELERY_REDIRECT_STDOUTS",),
    ),
    S(
        "worker_redirect_stdouts_level",
        LEVEL,
        "WARNING",
        "The log level of what tasks print.",
        old=("CELERY_REDIRECT_STDOUTS_LEVEL",),
    ),
    S(
        "worker_send_task_events",
        BOOL,
        False,
        "Send events about tasks.",
        old=("CELERY_SEND_EVENTS",),
    ),
    S("worker_shutdown_timeout", SECONDS, 25.0, "Seconds that running tasks have to finish at a clean stop."),
    S(
        "worker_soft_shutdown_timeout",
        SECONDS,
        0.0,
        "Seconds that running tasks have after QUIT, or a second signal; 0: none.",
    ),
    S("worker_state_db", PATH, None, "File that keeps the revoked ids over a restart."),
    S("worker_task_log_datefmt", STR, None, "Format of %(asctime)s in tasks."),
    S("worker_task_log_format", STR, TASK_LOG_FORMAT, "Format of log lines of tasks."),
    S("worker_timer", CLASS, None, "The class of the timer.", unused=ONE_WORKER),
    S(
        "worker_timer_precision",
        NUMBER,
        1.0,
        "Seconds between looks of the timer.",
        unused="timers are exact",
    ),
    S("worker_uid", ID, None, "User that a worker runs as."),
    S("worker_umask", UMASK, None, "The umask of a detached worker."),
)

_RESULT = (
    S("result_backend", CLASS, None, "The result store; None: the broker if that is embedded, else none."),
    S("result_backend_always_retry", BOOL, False, "Try again when the store fails."),
    S("result_backend_base_sleep_between_retries_ms", COUNT, 10, "Milliseconds before the first retry."),
    S("result_backend_max_retries", NUMBER, float("inf"), "Retries when the store fails."),
    S("result_backend_max_sleep_between_retries_ms", COUNT, 10000, "Most milliseconds between retries."),
    S(
        "result_backend_thread_safe",
        BOOL,
        False,
        "One store for all threads.",
        unused="one store serves all threads",
    ),
    S("result_backend_transport_options", MAP, {}, "Options of the store's driver."),
    S(
        "result_cache_max",
        INT,
        -1,
        "Results kept in the client; -1: none.",
        old=("CELERY_MAX_CACHED_RESULTS",),
        nullable=True,
        unused="a result object keeps what it has read, and nothing else does",
    ),
    S("result_chord_expires", SECONDS, None, "Seconds that a chord's parts are kept; None: result_expires."),
    S(
        "result_chord_join_timeout",
        SECONDS,
        3.0,
        "Seconds to read the parts of a chord that is complete; half of those that its join is one worker's.",
        nullable=True,
    ),
    S("result_chord_retry_interval", SECONDS, 1.0, "Seconds until a chord is joined that could not be."),
    S("result_compression", STR, None, "How results are compressed; None: not."),
    S(
        "result_exchange",
        STR,
        "celeryresults",
        "Exchange of results sent as messages.",
        unused=RPC_EXCHANGE,
    ),
    S(
        "result_exchange_type",
        STR,
        "direct",
        "Type of that exchange.",
        unused=RPC_EXCHANGE,
    ),
    S(
        "result_expires",
        SECONDS,
        86400.0,
        "Seconds that results are kept; 0 or None: for ever.",
        old=("CELERY_TASK_RESULT_EXPIRES",),
        nullable=True,
    ),
    S("result_extended", BOOL, False, "Results hold the task's name, arguments, worker and queue."),
    S("result_failure_expires", SECONDS, None, "Seconds that errors are kept; None: result_expires."),
    S(
        "result_persistent",
        BOOL,
        None,
        "Results sent as messages outlive a restart of the broker.",
    ),
    S("result_serializer", STR, "json", "Serializer of results."),
)

_BEAT = (
    S("beat_cron_starting_deadline", COUNT, None, "Seconds after which a missed run is not made up for."),
    S(
        "beat_enable_remote_control",
        BOOL,
        False,
        "Beat answers remote control commands.",
        unused=CONTROL,
    ),
    S(
        "beat_executable",
        PATH,
        None,
        "The Python that runs a detached beat.",
        unused="a detached beat is a fork of the command",
    ),
    S("beat_gid", ID, None, "Group that beat runs as."),
    S("beat_lease", SOME_SECONDS, 5.0, "Seconds after which another beat takes the place of one that died."),
    S("beat_logfile", PATH, None, "The log file of beat."),
    S("beat_max_loop_interval", SECONDS, 0, "Most seconds between looks; 0: the scheduler's own."),
    S("beat_pidfile", PATH, None, "File that holds beat's process id."),
    S(
        "beat_remote_control_max_tick_age",
        SECONDS,
        None,
        "Seconds without a tick until beat is ill.",
        unused=CONTROL,
    ),
    S("beat_schedule", MAP, {}, "The periodic tasks, by name."),
    S("beat_schedule_filename", PATH, "celerybeat-schedule", "File that keeps when tasks were last sent."),
    S(
        "beat_scheduler",
        CLASS,
        None,
        "The scheduler's class; None: the shared one, or with a file of its own the persistent one.",
    ),
    S("beat_sync_every", COUNT, 0, "Tasks sent between writes of the schedule; 0: by time."),
    S("beat_uid", ID, None, "User that beat runs as."),
    S("beat_umask", UMASK, None, "The umask of a detached beat."),
)

_EVENTS = (
    S("event_exchange", STR, "celeryev", "Exchange of events."),
    S("event_queue_durable", BOOL, False, "Queues of events outlive a restart of the broker."),
    S("event_queue_exclusive", BOOL, True, "Queues of events belong to one connection."),
    S("event_queue_expires", SECONDS, 60.0, "Seconds that an unused queue of events is kept.", nullable=True),
    S("event_queue_prefix", STR, "celeryev", "Beginning of the names of queues of events."),
    S("event_queue_ttl", SECONDS, 5.0, "Seconds that an event waits in a queue.", nullable=True),
    S("event_serializer", STR, "json", "Serializer of events."),
)

_MONITORS = _unused(
    "a monitor runs in the foreground",
    S("events_executable", PATH, None, "The Python that runs a detached monitor."),
    S("events_gid", ID, None, "Group that a monitor runs as."),
    S("events_logfile", PATH, None, "The log file of a monitor."),
    S("events_pidfile", PATH, None, "File that holds a monitor's process id."),
    S("events_uid", ID, None, "User that a monitor runs as."),
    S("events_umask", UMASK, None, "The umask of a detached monitor."),
)

_CONTROL = (
    S("control_exchange", STR, "celery", "Beginning of the names of the exchanges of remote control."),
    S("control_queue_durable", BOOL, False, "Queues of remote control outlive a restart of the broker."),
    S("control_queue_exclusive", BOOL, True, "Queues of remote control belong to one connection."),
    S(
        "control_queue_expires",
        SECONDS,
        10.0,
        "Seconds that an unused queue of remote control is kept.",
        nullable=True,
    ),
    S(
        "control_revoke_expires",
        SECONDS,
        7 * 86400.0,
        "Seconds that the broker and its workers remember that a task was revoked.",
    ),
    S("control_queue_ttl", SECONDS, 300.0, "Seconds that a command waits in a queue.", nullable=True),
)

_SECURITY = _unused(
    SECURITY,
    S("security_cert_store", PATH, None, "Folder or pattern of the certificates that are trusted."),
    S("security_certificate", PATH, None, "The certificate that messages are signed with."),
    S("security_digest", STR, "sha256", "The digest of signatures."),
    S("security_key", PATH, None, "The key that messages are signed with.", secret=True),
    S("security_key_password", BYTES, None, "The password of that key.", secret=True),
)

_REDIS = (
    S("redis_backend_credential_provider", ANY, None, "Gives the user and password of Redis.", secret=True),
    S("redis_backend_health_check_interval", SECONDS, None, "Idle seconds before a check; None: 25."),
    S("redis_backend_use_ssl", SSL, None, "Use TLS to the result store on Redis, with these options."),
    S("redis_client_name", STR, None, "Name of the connections, as CLIENT LIST shows it."),
    S("redis_db", INT, None, "Database of the result store, where result_backend names none."),
    S("redis_host", STR, None, "Host of the result store, where result_backend names none."),
    S("redis_max_connections", COUNT, None, "Connections to the result store; None: no limit."),
    S("redis_password", STR, None, "Password of the result store.", secret=True),
    S("redis_port", COUNT, None, "Port of the result store, where result_backend names none."),
    S(
        "redis_retry_on_timeout",
        BOOL,
        False,
        "Try again when Redis does not answer in time.",
        unused="a call is always tried again in its time",
    ),
    S("redis_socket_connect_timeout", SECONDS, None, "Seconds to connect; None: broker_connection_timeout."),
    S("redis_socket_keepalive", BOOL, False, "Use TCP keep-alive."),
    S("redis_socket_timeout", SECONDS, 120.0, "Seconds to wait for an answer.", nullable=True),
    S("redis_username", STR, None, "User of the result store."),
)

_STORES = (
    *_unused(
        "this version keeps no results in SQL databases",
        S("database_create_tables_at_setup", BOOL, True, "Create the tables when the store is opened."),
        S("database_engine_callback", CLASS, None, "Called with the SQLAlchemy engine when it is made."),
        S("database_engine_options", MAP, {"pool_pre_ping": True, "pool_recycle": 3600},
          "Options of the SQLAlchemy engine.", old=("CELERY_RESULT_ENGINE_OPTIONS",), nullable=True),
        S("database_short_lived_sessions", BOOL, False, "A connection per use.",
          old=("CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",)),
        S("database_table_names", MAP, None, "Names of the tables.", old=("CELERY_RESULT_DB_TABLENAMES",)),
        S("database_table_schemas", MAP, None, "Schemas of the tables."),
        S("database_url", STR, None, "The SQL database, where result_backend is 'database'.",
          old=("CELERY_RESULT_DBURI",)),
    ),
    *_unused(
        "this version keeps no results in caches",
        S("cache_backend", STR, None, "The cache, where result_backend is 'cache'."),
        S("cache_backend_options", MAP, {}, "Options of the cache's driver."),
    ),
    *_unused(
        "this version keeps no results in ArangoDB",
        S("arangodb_backend_settings", MAP, None, "How ArangoDB is reached."),
    ),
    *_unused(
        "this version keeps no results in Couchbase",
        S("couchbase_backend_settings", MAP, None, "How Couchbase is reached."),
    ),
    *_unused(
        "this version keeps no results in MongoDB",
        S("mongodb_backend_settings", MAP, None, "How MongoDB is reached."),
    ),
    *_unused(
        "this version keeps no results in Azure",
        S("azureblockblob_base_path", STR, "", "Beginning of the names of blobs."),
        S("azureblockblob_connection_timeout", SECONDS, 20, "Seconds to connect to Azure."),
        S("azureblockblob_container_name", STR, "celery", "The container of results."),
        S("azureblockblob_read_timeout", SECONDS, 120, "Seconds to wait for an answer of Azure."),
        S("azureblockblob_retry_increment_base", COUNT, 2, "Growth of the wait between retries."),
        S("azureblockblob_retry_initial_backoff_sec", SECONDS, 2, "Seconds before the first retry."),
        S("azureblockblob_retry_max_attempts", COUNT, 3, "Retries of a request to Azure."),
    ),
    *_unused(
        "this version keeps no results in Cassandra",
        S("cassandra_auth_kwargs", MAP, None, "Arguments of the authentication provider.", secret=True),
        S("cassandra_auth_provider", STR, None, "Class of the authentication provider."),
        S("cassandra_bundle_path", PATH, None, "The secure connect bundle."),
        S("cassandra_entry_ttl", SECONDS, None, "Seconds that results are kept."),
        S("cassandra_keyspace", STR, None, "The keyspace of results."),
        S("cassandra_options", MAP, {}, "Options of the cluster's driver."),
        S("cassandra_port", COUNT, None, "Port of the servers."),
        S("cassandra_read_consistency", STR, None, "Consistency of reads."),
        S("cassandra_secure_bundle_path", PATH, None, "The secure connect bundle, by its documented name."),
        S("cassandra_servers", NAMES, None, "The servers."),
        S("cassandra_table", STR, None, "The table of results."),
        S("cassandra_write_consistency", STR, None, "Consistency of writes."),
    ),
    *_unused(
        "this version keeps no results in Cosmos DB",
        S("cosmosdbsql_collection_name", STR, "celerycol", "The collection of results."),
        S("cosmosdbsql_consistency_level", STR, "Session", "Consistency of reads."),
        S("cosmosdbsql_database_name", STR, "celerydb", "The database of results."),
        S("cosmosdbsql_max_retry_attempts", COUNT, 9, "Retries of a request to Cosmos DB."),
        S("cosmosdbsql_max_retry_wait_time", SECONDS, 30, "Seconds that retries may take in all."),
    ),
    *_unused(
        "this version keeps no results in Elasticsearch",
        S("elasticsearch_max_retries", COUNT, None, "Retries of a request to Elasticsearch."),
        S("elasticsearch_retry_on_timeout", BOOL, None, "Try again when it does not answer in time."),
        S("elasticsearch_save_meta_as_text", BOOL, True, "Store results as text, not as JSON."),
        S("elasticsearch_timeout", SECONDS, None, "Seconds to wait for an answer of Elasticsearch."),
    ),
    *_unused(
        "this version keeps no results in Google Cloud",
        S("gcs_base_path", STR, "", "Beginning of the names of objects."),
        S("gcs_bucket", STR, None, "The bucket of results."),
        S("gcs_project", STR, None, "The Google Cloud project."),
        S("gcs_ttl", SECONDS, 0, "Seconds that results are kept; 0: for ever."),
    ),
    *_unused(
        "this version keeps no results in S3",
        S("s3_access_key_id", STR, None, "Id of the access key.", secret=True),
        S("s3_base_path", STR, None, "Beginning of the names of objects."),
        S("s3_bucket", STR, None, "The bucket of results."),
        S("s3_endpoint_url", STR, None, "The server, where it is not Amazon's."),
        S("s3_region", STR, None, "The region of the bucket."),
        S("s3_secret_access_key", STR, None, "The access key.", secret=True),
    ),
)  # fmt: skip

SETTINGS: tuple[Setting, ...] = (
    *_GENERAL,
    *_BROKER,
    *_TASK,
    *_WORKER,
    *_RESULT,
    *_BEAT,
    *_EVENTS,
    *_MONITORS,
    *_CONTROL,
    *_SECURITY,
    *_REDIS,
    *_STORES,
)
