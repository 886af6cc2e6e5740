-- What beats share. The tables are made when a beat first uses the file; every statement may be repeated.

-- name: schema
CREATE TABLE IF NOT EXISTS fastq_beats (
    app TEXT PRIMARY KEY,
    token TEXT NOT NULL DEFAULT '',
    expires REAL NOT NULL DEFAULT 0,   -- unix seconds: of the lease
    alive_at REAL NOT NULL DEFAULT 0,  -- unix seconds
    version INTEGER NOT NULL DEFAULT 0,
    served TEXT NOT NULL DEFAULT '',
    names TEXT NOT NULL DEFAULT '[]'   -- a JSON list
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fastq_periodic (
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    definition BLOB,                   -- null: it is defined in code
    number INTEGER NOT NULL DEFAULT 0, -- of the last run
    state BLOB,
    paused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, name)
) WITHOUT ROWID;

-- name: add_app
-- (app)
INSERT OR IGNORE INTO fastq_beats (app) VALUES (?)

-- name: facts
-- (app)
SELECT token, expires, version, served, alive_at FROM fastq_beats WHERE app = ?

-- name: renew
-- (token, expires, alive_at, served, names, app)
UPDATE fastq_beats SET token = ?, expires = ?, alive_at = ?, served = ?, names = ? WHERE app = ?

-- name: resign
-- (app, beat and a space, beat and a space)
UPDATE fastq_beats SET expires = 0 WHERE app = ? AND substr(token, 1, length(?)) = ?

-- name: names
-- (app)
SELECT names FROM fastq_beats WHERE app = ?

-- name: entries
-- (app)
SELECT name, definition, number, state, paused FROM fastq_periodic WHERE app = ?

-- name: number
-- (app, name)
SELECT number FROM fastq_periodic WHERE app = ? AND name = ?

-- name: set_state
-- (app, name, number, state)
INSERT INTO fastq_periodic (app, name, number, state) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET number = excluded.number, state = excluded.state

-- name: amend
-- (state, app, name, number)
UPDATE fastq_periodic SET state = ? WHERE app = ? AND name = ? AND number = ?

-- name: put
-- (app, name, definition)
INSERT INTO fastq_periodic (app, name, definition) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET definition = excluded.definition

-- name: pause
-- (app, name, 1 or 0)
INSERT INTO fastq_periodic (app, name, paused) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET paused = excluded.paused

-- name: remove
-- (app, name)
DELETE FROM fastq_periodic WHERE app = ? AND name = ?

-- name: advance
-- (app)
UPDATE fastq_beats SET version = version + 1 WHERE app = ?
