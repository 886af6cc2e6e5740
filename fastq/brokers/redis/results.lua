-- Helpers that stand in front of turn.lua and store.lua: result documents (docs/PROTOCOL.md §5.1).
-- A stored SUCCESS is not overwritten by another state. Documents of JSON show their state, as Celery writes
-- it first (§5.2). Beside a SUCCESS of another serializer lies a mark, the digest of the document: what
-- Celery writes over that later does not fit the mark.

local function mark_of(key) return (string.gsub(key, 'celery%-task%-meta%-', 'fastq:success:', 1)) end

local function shows_state(document) return string.sub(document, 1, 10) == '{"status":' end

local function is_success(key, document)
  if shows_state(document) then return string.find(document, '^{"status":%s*"SUCCESS"') end
  return redis.call('GET', mark_of(key)) == redis.sha1hex(document)
end

-- *ttl_ms* '' keeps it for ever.
local function set(key, ttl_ms, value)
  if ttl_ms == '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', ttl_ms)
  end
end

-- Store and announce a SUCCESS.
local function store(key, ttl_ms, document)
  set(key, ttl_ms, document)
  if not shows_state(document) then set(mark_of(key), ttl_ms, redis.sha1hex(document)) end
  redis.call('PUBLISH', key, document)
end

-- Store and announce any state, unless a SUCCESS is stored.
local function store_unless_success(key, ttl_ms, document, succeeds)
  local stored = redis.call('GET', key)
  if stored and is_success(key, stored) then return end
  if succeeds then return store(key, ttl_ms, document) end
  set(key, ttl_ms, document)
  redis.call('PUBLISH', key, document)
end
