-- Helpers that stand in front of the scripts of workers.
-- A redelivery count travels in front of an envelope's first field, where JSON readers pass over it
-- as an unknown name:  {"fastq-redelivered":2,"body":...

local function redeliveries(envelope)
  local first, last, count = string.find(envelope, '^{"fastq%-redelivered":(%d+),')
  if first then return tonumber(count), last + 1 end
  return 0, 2
end

local function with_redeliveries(envelope, count)
  if string.sub(envelope, 1, 1) ~= '{' then return envelope end  -- no envelope: it can't run
  local _, rest = redeliveries(envelope)
  if count == 0 then return '{' .. string.sub(envelope, rest) end
  return '{"fastq-redelivered":' .. count .. ',' .. string.sub(envelope, rest)
end

-- Lua can't unpack more than 8,000 values at once.
local CHUNK = 1000

-- call(command, key, values[first], ..., values[last]) in chunks: by default of all values; the sum of the replies
local function variadic(command, key, values, first, last)
  local sum = 0
  last = last or #values
  for i = first or 1, last, CHUNK do
    sum = sum + redis.call(command, key, unpack(values, i, math.min(i + CHUNK - 1, last)))
  end
  return sum
end

-- A full Redis refuses a script's first write if it may need memory, and allows all that follow a harmless
-- one. What workers do is what empties it, so they go on. *leases* is the sorted set of that name.
local function allow_writes(leases) redis.call('ZREM', leases, '') end

-- To the microsecond.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- Add to the dead set. The entry bears the task's id; a namesake that lies there already keeps its place.
local function bury(dead, entries, envelope, reason, fallback, at_ms)
  local entry = string.match(envelope, '"id":%s*"([^"\\]+)"') or fallback
  if redis.call('HEXISTS', entries, entry) == 1 then entry = entry .. '#' .. fallback end
  redis.call('HSET', entries, entry, reason .. '\0' .. envelope)
  local died_at = at_ms / 1000
  -- What dies in one script dies at one time: a microsecond each keeps the order.
  local newest = redis.call('ZRANGE', dead, -1, -1, 'WITHSCORES')[2]
  if newest and tonumber(newest) >= died_at then died_at = tonumber(newest) + 0.000001 end
  redis.call('ZADD', dead, string.format('%.6f', died_at), entry)
end
