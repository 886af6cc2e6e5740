-- Store the bindings of a worker's queues.
--
-- KEYS  1 leases
-- ARGV  the commands, each a JSON array

allow_writes(KEYS[1])
for _, command in ipairs(ARGV) do redis.call(unpack(cjson.decode(command))) end
