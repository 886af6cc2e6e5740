-- Read a block of a long chain, and delete those before it.
--
-- KEYS[1]  hash of its blocks
-- ARGV     milliseconds that it and those after it are kept from now on, the number of the block
-- Returns its steps, or nothing.

local steps = redis.call('HGET', KEYS[1], ARGV[2])
for before = tonumber(ARGV[2]) - 1, 0, -1 do
  if redis.call('HDEL', KEYS[1], before) == 0 then break end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return steps
