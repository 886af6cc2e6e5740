-- Helpers that stand in front of turn.lua and store.lua: result documents (protocol/PROTOCOL.md §5.1).

-- Store and announce; *seconds* '' keeps it for ever.
local function store(key, seconds, document)
  if seconds == '' then
    redis.call('SET', key, document)
  else
    redis.call('SETEX', key, seconds, document)
  end
  redis.call('PUBLISH', key, document)
end

-- Celery writes the status first (§5.2).
local function store_unless_success(key, seconds, document)
  local stored = redis.call('GET', key)
  if stored and string.find(stored, '^{"status":%s*"SUCCESS"') then return end
  store(key, seconds, document)
end
