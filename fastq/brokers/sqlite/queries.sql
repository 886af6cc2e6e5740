-- The statements of the embedded broker and backend, each under the name by which the code asks for it.

-- ---- the file ----

-- name: is_created
-- The newest table: an older file gets what it lacks.
SELECT 1 FROM sqlite_master WHERE name = 'fastq_paused'

-- name: schema_version
SELECT value FROM fastq_counters WHERE name = 'schema'

-- ---- adding messages (moves.py) ----

-- name: next_id
SELECT coalesce(max(id), 0) + 1 FROM fastq_messages

-- name: add_message
-- (id, queue, step, queued_at, envelope)
INSERT INTO fastq_messages (id, queue, step, redelivered, queued_at, envelope) VALUES (?, ?, ?, 0, ?, ?)

-- name: make_all_ready
-- (first id, last id): all new messages of that range
INSERT INTO fastq_ready SELECT queue, step, id FROM fastq_messages WHERE id BETWEEN ? AND ?

-- name: delay
-- (due, id)
INSERT INTO fastq_delayed (due, id) VALUES (?, ?)

-- ---- moving messages (moves.py) ----

-- name: make_ready
-- (id)
INSERT INTO fastq_ready SELECT queue, step, id FROM fastq_messages WHERE id = ?

-- name: move_to_tail
-- (new id, queued_at, redelivered or null to leave it, id)
UPDATE fastq_messages SET id = ?, queued_at = ?, redelivered = coalesce(?, redelivered) WHERE id = ?

-- name: count_up
-- (id)
UPDATE fastq_messages SET redelivered = redelivered + 1 WHERE id = ?

-- name: envelope
-- (id)
SELECT envelope FROM fastq_messages WHERE id = ?

-- name: redelivered
-- (id)
SELECT redelivered FROM fastq_messages WHERE id = ?

-- name: delete_message
-- (id)
DELETE FROM fastq_messages WHERE id = ?

-- name: delete_claim
-- (id)
DELETE FROM fastq_claims WHERE id = ?

-- name: delete_dead
-- (id)
DELETE FROM fastq_dead WHERE id = ?

-- name: bury
-- (id, name, task, reason, died_at)
INSERT INTO fastq_dead (id, name, task, reason, died_at) VALUES (?, ?, ?, ?, ?)

-- name: due
-- (now, limit): ids of delayed messages whose time has come
SELECT id FROM fastq_delayed WHERE due <= ? ORDER BY due, id LIMIT ?

-- name: delete_due
-- (now, limit): the rows that `due` gives
DELETE FROM fastq_delayed WHERE (due, id) IN (SELECT due, id FROM fastq_delayed WHERE due <= ? ORDER BY due, id LIMIT ?)

-- ---- claims (consumer.py) ----

-- name: look
-- (own worker id, queue...): whether there is a message, when one is due, when a lease of another worker ends
SELECT
    EXISTS (SELECT 1 FROM fastq_ready WHERE queue IN ({queues})),
    (SELECT min(due) FROM fastq_delayed),
    (SELECT min(expires) FROM fastq_workers WHERE id <> ?)

-- name: ready
-- (queue, limit)
SELECT r.step, r.id, m.redelivered, m.envelope
FROM fastq_ready AS r JOIN fastq_messages AS m USING (id)
WHERE r.queue = ? ORDER BY r.step, r.id LIMIT ?

-- name: claim
-- (id, worker id)
INSERT INTO fastq_claims (id, worker, started) VALUES (?, ?, 0)

-- name: delete_ready
-- (queue, step, id): all messages of the queue up to and with that one
DELETE FROM fastq_ready WHERE queue = ? AND (step, id) <= (?, ?)

-- name: mark_started
-- (id, worker id)
UPDATE fastq_claims SET started = 1 WHERE id = ? AND worker = ?

-- name: add_worker
-- (node, expires)
INSERT INTO fastq_workers (node, expires) VALUES (?, ?)

-- name: renew
-- (expires, worker id)
UPDATE fastq_workers SET expires = ? WHERE id = ?

-- name: worker
-- (worker id)
SELECT 1 FROM fastq_workers WHERE id = ?

-- name: expired_workers
-- (now, own worker id)
SELECT id, node FROM fastq_workers WHERE expires <= ? AND id <> ?

-- name: delete_worker
-- (worker id)
DELETE FROM fastq_workers WHERE id = ?

-- name: claims_of
-- (worker id): id, and whether its loss counts as a redelivery
SELECT c.id, c.started OR m.redelivered = 0
FROM fastq_claims AS c JOIN fastq_messages AS m USING (id)
WHERE c.worker = ? ORDER BY c.id

-- name: dying
-- (worker id, most redeliveries): what can't be redelivered to another worker once more
SELECT c.id, m.queue, m.redelivered + 1, m.envelope
FROM fastq_claims AS c JOIN fastq_messages AS m USING (id)
WHERE c.worker = ? AND (c.started OR m.redelivered = 0) AND m.redelivered >= ?
ORDER BY c.id

-- ---- bindings (bindings.py) ----

-- name: bind
-- (exchange, queue, routing key, arguments, type, worker id or null)
INSERT INTO fastq_bindings (exchange, queue, routing_key, arguments, type, worker) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET type = excluded.type, worker = excluded.worker

-- name: bindings
-- (exchange)
SELECT type, queue, routing_key, arguments FROM fastq_bindings WHERE exchange = ?

-- name: private_queues
-- (worker id): those that are its alone
SELECT DISTINCT queue FROM fastq_bindings WHERE worker = ?

-- name: unbind
-- (worker id)
DELETE FROM fastq_bindings WHERE worker = ?

-- ---- what is revoked and paused (broker.py) ----

-- name: revoke
-- (record, expires)
INSERT INTO fastq_revoked (record, expires) VALUES (?, ?)
ON CONFLICT DO UPDATE SET expires = max(expires, excluded.expires)

-- name: forget_revoked
-- (now)
DELETE FROM fastq_revoked WHERE expires <= ?

-- name: revoked
-- (now)
SELECT record, expires FROM fastq_revoked WHERE expires > ?

-- name: pause
-- (queue)
INSERT OR IGNORE INTO fastq_paused VALUES (?)

-- name: resume
-- (queue)
DELETE FROM fastq_paused WHERE queue = ?

-- name: paused
SELECT queue FROM fastq_paused

-- name: delayed
-- (queue, limit)
SELECT d.due, m.envelope FROM fastq_delayed AS d JOIN fastq_messages AS m USING (id)
WHERE m.queue = ? ORDER BY d.due, d.id LIMIT ?

-- ---- looking and clearing up (broker.py) ----

-- name: counts
-- queue, ready, claimed, delayed, dead
WITH held (queue, ready, claimed, delayed, dead) AS (
    SELECT queue, count(*), 0, 0, 0 FROM fastq_ready GROUP BY queue
    UNION ALL
    SELECT m.queue, 0, count(*), 0, 0 FROM fastq_claims JOIN fastq_messages AS m USING (id) GROUP BY m.queue
    UNION ALL
    SELECT m.queue, 0, 0, count(*), 0 FROM fastq_delayed JOIN fastq_messages AS m USING (id) GROUP BY m.queue
    UNION ALL
    SELECT m.queue, 0, 0, 0, count(*) FROM fastq_dead JOIN fastq_messages AS m USING (id) GROUP BY m.queue
)
SELECT queue, sum(ready), sum(claimed), sum(delayed), sum(dead) FROM held GROUP BY queue

-- name: head
-- (queue): since when the next message of the queue waits
SELECT m.queued_at FROM fastq_ready AS r JOIN fastq_messages AS m USING (id)
WHERE r.queue = ? ORDER BY r.step, r.id LIMIT 1

-- name: purge_ready
-- (queue)
DELETE FROM fastq_messages WHERE id IN (SELECT id FROM fastq_ready WHERE queue = ?)

-- name: purge_ready_rows
-- (queue)
DELETE FROM fastq_ready WHERE queue = ?

-- name: delayed_of
-- (queue)
SELECT d.due, d.id FROM fastq_delayed AS d JOIN fastq_messages AS m USING (id) WHERE m.queue = ?

-- name: delete_delayed
-- (due, id)
DELETE FROM fastq_delayed WHERE due = ? AND id = ?

-- name: places
-- (bytes to look for): every message that holds them, with what says where it lies
SELECT m.queue, m.redelivered, m.envelope, d.due, w.node, x.name, x.reason
FROM fastq_messages AS m
LEFT JOIN fastq_delayed AS d ON d.id = m.id
LEFT JOIN fastq_claims AS c ON c.id = m.id
LEFT JOIN fastq_workers AS w ON w.id = c.worker
LEFT JOIN fastq_dead AS x ON x.id = m.id
WHERE instr(m.envelope, ?) > 0

-- name: dead
-- (queue or null, queue, limit)
SELECT x.name, m.queue, x.task, x.reason, x.died_at, m.envelope
FROM fastq_dead AS x JOIN fastq_messages AS m USING (id)
WHERE ? IS NULL OR m.queue = ? ORDER BY x.died_at DESC, x.id DESC LIMIT ?

-- name: dead_ids
-- (queue or null, queue)
SELECT x.id, x.name FROM fastq_dead AS x JOIN fastq_messages AS m USING (id)
WHERE ? IS NULL OR m.queue = ? ORDER BY x.id

-- ---- results (results.py) ----

-- name: result_position
-- the seq of the newest result
SELECT value FROM fastq_counters WHERE name = 'results'

-- name: advance_results
-- (by how many)
UPDATE fastq_counters SET value = value + ? WHERE name = 'results'

-- name: replace_result
-- (hash, task id, now): take away what a new result may replace
DELETE FROM fastq_results WHERE hash = ? AND task_id = ? AND (state <> 'SUCCESS' OR expires <= ?)

-- name: add_result
-- (seq, hash, task id, state, expires, document, hash, task id)
INSERT INTO fastq_results SELECT ?, ?, ?, ?, ?, ?
WHERE NOT EXISTS (SELECT 1 FROM fastq_results WHERE hash = ? AND task_id = ?)

-- name: result
-- (hash, task id, now)
SELECT seq, document FROM fastq_results
WHERE hash = ? AND task_id = ? AND (expires IS NULL OR expires > ?)

-- name: results_after
-- (seq, limit)
SELECT seq, task_id FROM fastq_results WHERE seq > ? ORDER BY seq LIMIT ?

-- name: delete_result
-- (hash, task id)
DELETE FROM fastq_results WHERE hash = ? AND task_id = ?

-- name: delete_expired_results
-- (now, limit)
DELETE FROM fastq_results WHERE seq IN (
    SELECT seq FROM fastq_results WHERE expires <= ? ORDER BY expires LIMIT ?
)

-- name: save_group
-- (group id, expires, document)
INSERT OR REPLACE INTO fastq_groups VALUES (?, ?, ?)

-- name: group
-- (group id, now)
SELECT document FROM fastq_groups WHERE group_id = ? AND (expires IS NULL OR expires > ?)

-- name: delete_group
-- (group id)
DELETE FROM fastq_groups WHERE group_id = ?

-- name: delete_expired_groups
-- (now, limit)
DELETE FROM fastq_groups WHERE group_id IN (
    SELECT group_id FROM fastq_groups WHERE expires <= ? ORDER BY expires LIMIT ?
)

-- ---- long chains (chains.py) ----

-- name: save_block
-- (chain id, position, expires, steps)
INSERT OR REPLACE INTO fastq_chains VALUES (?, ?, ?, ?)

-- name: delete_blocks_before
-- (chain id, position)
DELETE FROM fastq_chains WHERE chain_id = ? AND position < ?

-- name: touch_chain
-- (expires, chain id, now)
UPDATE fastq_chains SET expires = ? WHERE chain_id = ? AND expires > ?

-- name: block
-- (chain id, position, now)
SELECT steps FROM fastq_chains WHERE chain_id = ? AND position = ? AND expires > ?

-- name: delete_expired_chains
-- (now, limit)
DELETE FROM fastq_chains WHERE rowid IN (
    SELECT rowid FROM fastq_chains WHERE expires <= ? ORDER BY expires LIMIT ?
)

-- ---- chords (chords.py) ----

-- name: touch_chord
-- (group id, expires)
INSERT INTO fastq_chords VALUES (?, NULL, 0, 0, NULL, ?)
ON CONFLICT DO UPDATE SET expires = excluded.expires

-- name: begin_chord
-- (group id, size, expires)
INSERT INTO fastq_chords VALUES (?, ?, 0, 0, NULL, ?)
ON CONFLICT DO UPDATE SET size = excluded.size, joined_by = NULL, expires = excluded.expires

-- name: grow_chord
-- (by how many, group id)
UPDATE fastq_chords SET added = added + ? WHERE group_id = ?

-- name: chord
-- (group id): size or null, parts that have ended, who joins it
SELECT size + added, counted, joined_by FROM fastq_chords WHERE group_id = ?

-- name: count_parts
-- (how many, group id)
UPDATE fastq_chords SET counted = counted + ? WHERE group_id = ?

-- name: take_chord
-- (name of the part, group id)
UPDATE fastq_chords SET joined_by = ? WHERE group_id = ?

-- name: end_chord
-- (expires, group id)
UPDATE fastq_chords SET size = NULL, added = 0, counted = 0, joined_by = 'done', expires = ?
WHERE group_id = ? AND coalesce(joined_by, '') <> 'done'

-- name: add_part
-- (group id, name, position, member)
INSERT OR IGNORE INTO fastq_parts (group_id, name, position, member) VALUES (?, ?, ?, ?)

-- name: parts
-- (group id)
SELECT member FROM fastq_parts WHERE group_id = ? AND position IS NOT NULL ORDER BY position, rowid

-- name: delete_parts
-- (group id)
DELETE FROM fastq_parts WHERE group_id = ?

-- name: expired_chords
-- (now, limit)
SELECT group_id FROM fastq_chords WHERE expires <= ? ORDER BY expires LIMIT ?

-- name: delete_chord
-- (group id)
DELETE FROM fastq_chords WHERE group_id = ?
