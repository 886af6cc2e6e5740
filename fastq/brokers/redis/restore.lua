-- Put claims back at the head of their queues, in their order: those of every worker whose lease ran out, or,
-- when a worker leaves, its own.
--
-- KEYS  1 leases  2 workers
-- ARGV  1 prefix of the keys that hold turn numbers  2 max redeliveries  3 how many claims at most (about)
--       4 epoch of the worker that leaves ('': those with expired leases), then the claim ids it counts as redelivered;
--       for expired leases: EPOCH-CLAIM of each claim that may go to the dead set, or '*' for any
-- Returns {how many went back or to the dead set, ms until the next lease runs out (0: there is more to do, -1: none),
-- {EPOCH-CLAIM, queue, count, reason, envelope}* of claims that stay where they are until they may go to the dead set}.
--
-- A worker's death does not tell which of its claims was running. The first time, all are counted; messages
-- that were counted before are marked as started by the worker before they run, and count on only if they were.

local leases, workers, limit, leaver = KEYS[1], KEYS[2], tonumber(ARGV[3]), ARGV[4]
local restored, dying = 0, {}
local listed = {}
for i = 5, #ARGV do listed[ARGV[i]] = true end

local function is_counted(queue, claim, count)
  if count == 0 then return true end
  return redis.call('SISMEMBER', queue.started, claim) == 1
end
if leaver ~= '' then is_counted = function(_, claim, _) return listed[claim] end end

local function number_of(claim) return tonumber(string.match(claim, '^%d+')) end

-- Newest first: the last one pushed is the next one popped.
local function restore_queue(queue, worker, now)
  local ids = redis.call('HKEYS', queue.claims)
  table.sort(ids, function(a, b) return number_of(a) > number_of(b) end)
  local left = false
  for _, claim in ipairs(ids) do
    if restored + #dying >= limit then return false end
    local is_dying = false
    local envelope = redis.call('HGET', queue.claims, claim)
    local count = redeliveries(envelope)
    if is_counted(queue, claim, count) then
      count = count + 1
      envelope = with_redeliveries(envelope, count)
    end
    if leaver == '' and count > tonumber(ARGV[2]) and count > 1 then
      local reason = 'its worker died ' .. count .. ' times while it held it, the last time ' .. worker.name
      local name = worker.epoch .. '-' .. claim
      is_dying = not (listed['*'] or listed[name])
      if is_dying then
        dying[#dying + 1] = {name, queue.name, count, reason, envelope}
      else
        bury(queue.dead, queue.entries, envelope, reason, name, now)
      end
    else
      redis.call('RPUSH', queue.lists[string.match(claim, ':(%d+)$') or '0'], envelope)
    end
    if is_dying then
      left = true
    else
      redis.call('HDEL', queue.claims, claim)
      restored = restored + 1
    end
  end
  if not left then redis.call('DEL', queue.started) end
  return true
end

local function restore_worker(epoch, now)
  -- From here on it can settle nothing more.
  redis.call('DEL', ARGV[1] .. epoch)
  local known = redis.call('HGET', workers, epoch)
  if known then
    local worker = cjson.decode(known)
    worker.epoch = epoch
    local known_dying = #dying
    for _, queue in ipairs(worker.queues) do
      if not restore_queue(queue, worker, now) then return false end
    end
    if #dying > known_dying then return true end
    -- The queues that were its alone, unless another of that name has taken their bindings over.
    for _, queue in ipairs(worker.private or {}) do
      local is_own = false
      for _, binding in ipairs(queue.bindings) do
        if redis.call('HGET', binding[1], binding[2]) == epoch then
          redis.call('HDEL', binding[1], binding[2])
          is_own = true
        end
      end
      if is_own then
        redis.call('DEL', unpack(queue.keys))
        redis.call('SREM', queue.registry, queue.name)
      end
    end
    redis.call('HDEL', workers, epoch)
  end
  redis.call('ZREM', leases, epoch)
  return true
end

local now = now_ms()
local epochs = {leaver}
if leaver == '' then epochs = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 10) end
for _, epoch in ipairs(epochs) do
  if not restore_worker(epoch, now) then return {restored, 0, dying} end
end
if #epochs == 10 then return {restored, 0, dying} end
local next_lease = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
return {restored, next_lease[2] and math.max(tonumber(next_lease[2]) - now, 0) + 1 or -1, dying}
