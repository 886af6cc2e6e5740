-- Enter a worker epoch: who it is, and its lease.
--
-- KEYS  1 leases  2 workers  3 the epoch's turns
-- ARGV  1 epoch  2 lease in ms  3 what restore.lua must know of it

allow_writes(KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[3], 'done', 0)
redis.call('ZADD', KEYS[1], now_ms() + tonumber(ARGV[2]), ARGV[1])
