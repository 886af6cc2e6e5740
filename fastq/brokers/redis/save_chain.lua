-- Keep the steps of a long chain.
--
-- KEYS[1]  hash of its blocks
-- ARGV     milliseconds that it is kept, then the number and the steps of each block

for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
