-- Put what a worker has heard by pub/sub into a queue, unless another worker of the queue was faster.
--
-- KEYS  1 mark that it was heard  2 ready list
-- ARGV  1 envelope

-- Long enough for every worker to have heard it, in ms.
local HEARD_FOR = 60000

if redis.call('SET', KEYS[1], '', 'NX', 'PX', HEARD_FOR) then redis.call('LPUSH', KEYS[2], ARGV[1]) end
