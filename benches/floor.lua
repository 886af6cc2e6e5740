-- One turn of the floor: settle what is done, claim what is next, atomically.
-- KEYS  1 queue (list)  2 claims (hash: tag -> envelope)  3 last tag (counter)
-- ARGV  1 room          2... tags to settle
-- Returns the first tag, then the claimed envelopes; the tags are consecutive.
if #ARGV > 1 then
    redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
end
local envelopes = redis.call('RPOP', KEYS[1], ARGV[1])
if not envelopes then
    return {0}
end
local first = redis.call('INCRBY', KEYS[3], #envelopes) - #envelopes + 1
local claims = {}
for position, envelope in ipairs(envelopes) do
    claims[2 * position - 1] = first + position - 1
    claims[2 * position] = envelope
end
redis.call('HSET', KEYS[2], unpack(claims))
table.insert(envelopes, 1, first)
return envelopes
