-- The tables of one store. Every statement may be repeated.

-- Each message that the store holds, whatever its state. Its id is its place in line, so a message that
-- goes to the tail gets a new one, and one that goes back to the head keeps its own. Exactly one of the
-- four tables below holds the id too and so says the state. They are apart, and narrow, so that a change
-- of state does not write the envelope once more.
CREATE TABLE IF NOT EXISTS fastq_messages (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    step INTEGER NOT NULL,             -- of priority: 0 (most urgent), 3, 6 or 9
    redelivered INTEGER NOT NULL,      -- how often it was taken back from a worker that died
    queued_at REAL NOT NULL,           -- unix seconds
    envelope BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS fastq_ready (
    queue TEXT NOT NULL,
    step INTEGER NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (queue, step, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS fastq_claims (
    id INTEGER PRIMARY KEY,
    worker INTEGER NOT NULL,
    started INTEGER NOT NULL           -- 1: its worker said that it was about to run it
);

CREATE TABLE IF NOT EXISTS fastq_delayed (
    due REAL NOT NULL,                 -- unix seconds
    id INTEGER NOT NULL,
    PRIMARY KEY (due, id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS fastq_dead (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,                -- the task's id, or message-ID
    task TEXT NOT NULL,
    reason TEXT NOT NULL,
    died_at REAL NOT NULL              -- unix seconds
);

-- The workers that hold claims. An id is never used again: it is the epoch that a claim belongs to.
CREATE TABLE IF NOT EXISTS fastq_workers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node TEXT NOT NULL,
    expires REAL NOT NULL              -- unix seconds: when others may take its claims
);

-- Results in the order in which they came, so that a table of any size grows at its end and whoever waits
-- reads only what is new. Task ids are random: an index on the text itself would have every commit of a
-- thousand results write a thousand pages. Their CRC-32 makes it a fifteenth of that size.
CREATE TABLE IF NOT EXISTS fastq_results (
    seq INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,             -- zlib.crc32 of the task's id
    task_id TEXT NOT NULL,
    state TEXT NOT NULL,
    expires REAL,                      -- unix seconds; null: never
    document BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS fastq_results_hash ON fastq_results (hash);
CREATE INDEX IF NOT EXISTS fastq_results_expires ON fastq_results (expires) WHERE expires IS NOT NULL;

-- What describes each saved group.
CREATE TABLE IF NOT EXISTS fastq_groups (
    group_id TEXT PRIMARY KEY,
    expires REAL,                      -- unix seconds; null: never
    document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fastq_groups_expires ON fastq_groups (expires) WHERE expires IS NOT NULL;

-- Chords that began or of which a part has ended. What has ended stays for a while, so that no part counts late.
CREATE TABLE IF NOT EXISTS fastq_chords (
    group_id TEXT PRIMARY KEY,
    size INTEGER,                      -- of its header; null: not known yet
    added INTEGER NOT NULL,            -- what came to that
    counted INTEGER NOT NULL,          -- parts that have ended
    joined_by TEXT,                    -- TASK:INDEX of the part that completed it, or 'done'
    expires REAL                       -- unix seconds; null: never
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fastq_chords_expires ON fastq_chords (expires) WHERE expires IS NOT NULL;

-- Their parts that have ended, and who has let them grow.
CREATE TABLE IF NOT EXISTS fastq_parts (
    group_id TEXT NOT NULL,
    name TEXT NOT NULL,                -- TASK:INDEX, or extended:TASK
    position REAL,                     -- the index, or infinite; null: not a part
    member BLOB,
    UNIQUE (group_id, name)
);

-- Steps of long chains that are still to come, in blocks.
CREATE TABLE IF NOT EXISTS fastq_chains (
    chain_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    expires REAL NOT NULL,             -- unix seconds
    steps BLOB NOT NULL,
    UNIQUE (chain_id, position)
);
CREATE INDEX IF NOT EXISTS fastq_chains_expires ON fastq_chains (expires);

-- What exchanges bring to which queues. Those of a queue that is one worker's alone end with that worker.
CREATE TABLE IF NOT EXISTS fastq_bindings (
    exchange TEXT NOT NULL,
    queue TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    arguments TEXT NOT NULL,           -- a JSON object, its names sorted
    type TEXT NOT NULL,                -- of the exchange
    worker INTEGER,                    -- null: nobody's own
    PRIMARY KEY (exchange, queue, routing_key, arguments)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fastq_bindings_worker ON fastq_bindings (worker) WHERE worker IS NOT NULL;

-- The ids of tasks that must not start.
CREATE TABLE IF NOT EXISTS fastq_revoked (
    record TEXT PRIMARY KEY,
    expires REAL NOT NULL              -- unix seconds
) WITHOUT ROWID;

-- The queues that workers take nothing from.
CREATE TABLE IF NOT EXISTS fastq_paused (queue TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS fastq_counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO fastq_counters VALUES ('schema', 1), ('results', 0);
