-- Helpers that stand in front of turn.lua and store.lua: result documents (protocol/PROTOCOL.md §5.1).

-- Store and announce; *ttl_ms* '' keeps it for ever.
local function store(key, ttl_ms, document)
  if ttl_ms == '' then
    redis.call('SET', key, document)
  else
    redis.call('SET', key, document, 'PX', ttl_ms)
  end
  redis.call('PUBLISH', key, document)
end

-- Celery writes the status first (§5.2).
local function store_unless_success(key, ttl_ms, document)
  local stored = redis.call('GET', key)
  if stored and string.find(stored, '^{"status":%s*"SUCCESS"') then return end
  store(key, ttl_ms, document)
end
