-- What is announced to those who listen now (listening.py), in a file of its own.

-- name: schema
CREATE TABLE IF NOT EXISTS fastq_announcements (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: a listener reads on from the last it saw
    exchange TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    sent_at REAL NOT NULL,                 -- unix seconds
    envelope BLOB NOT NULL
)

-- name: announce
-- (exchange, routing key, sent at, envelope)
INSERT INTO fastq_announcements (exchange, routing_key, sent_at, envelope) VALUES (?, ?, ?, ?)

-- name: forget
-- (unix seconds): what is older; in the order of ids, so that it stops at the first that is not
DELETE FROM fastq_announcements
WHERE id < coalesce((SELECT id FROM fastq_announcements WHERE sent_at >= ? ORDER BY id LIMIT 1), 1 << 62)

-- name: newest
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'fastq_announcements'), 0)

-- name: since
-- (number): what was announced after it
SELECT id, exchange, routing_key, envelope FROM fastq_announcements WHERE id > ? ORDER BY id LIMIT 1000
