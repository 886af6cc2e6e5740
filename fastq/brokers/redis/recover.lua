-- Tell a worker that has connected anew what took place meanwhile, and raise a fence: a request that still
-- lies in the server's buffer of the old connection comes to nothing.
--
-- KEYS  1 leases  2 the epoch's turns  then the claims of each queue
-- ARGV  1 the fence, which is not the number of a turn: the reply to this may be lost too, and the next
--         recovery must not take it for one
-- Returns {number of the last turn, then the claim ids of each queue}; {} when the lease was lost.

local done = redis.call('HGET', KEYS[2], 'done')
if not done then return {} end
allow_writes(KEYS[1])
redis.call('HSET', KEYS[2], 'fence', ARGV[1])
local reply = {done}
for i = 3, #KEYS do reply[i - 1] = redis.call('HKEYS', KEYS[i]) end
return reply
