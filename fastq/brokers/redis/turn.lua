-- One turn of a worker: settle what is done, move what is due, claim what is next.
--
-- KEYS  1 leases  2 number of this worker's last turn
--       then per queue: claims, delayed; then per queue and priority step: ready list
-- ARGV  1 epoch  2 count of queues  3 count of steps  4 prefix of result keys  5 ms a SUCCESS is kept ('': always)
--       then the suffix of claim ids of each step ('' or ':3'), then
--       turn number, lease in ms to renew ('0': leave it), room, first claim id,
--       1 if the caller will wait for more, number of the queue to begin with (from 0), from how many queues,
--       the first ones, messages are claimed,
--       then records, each a letter and its fields:
--         R n (task id, document)*n          store and announce results
--         G task id, ms it is kept, '1' for a SUCCESS, document       the same, unless a SUCCESS is stored
--         P list, envelope, delayed          publish to a ready list
--         D delayed, due, member             publish to the schedule
--                                            (what its queue can't take goes to the dead set of that queue)
--         A queue, n (claim id)*n            acknowledge
--         Q queue, claim id, list            requeue at the tail
--         H queue, claim id, list, dead, entries, most redeliveries   back to the head, counted, or bury
--         U queue, claim id, list            back to the head, uncounted: it did not start
--         W queue, claim id, due, step, the worker's time   park in the schedule
--         B queue, claim id, dead, entries, reason   bury
--         S started, claim id                forget that it was started
--         C I J K T V                        about chords: see chords.lua
-- Returns {1, ms until the next message is due or -1, then pairs of list number (from 0) and array of envelopes, or
-- of -1 and what a chord is that is complete now, as chords.lua tells it}; {0} and no effect when the lease was lost;
-- {-1} and no effect when this turn, or a later one, took place before.
-- Claims get ids from the first one upwards, in the order of the reply.

local epoch, queues, steps = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local result_prefix, ttl = ARGV[4], ARGV[5]
local at = 5 + steps
local number, lease = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
local room, id = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
local waits, rotation, claimed = ARGV[at + 5] == '1', tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])

local last = redis.call('HMGET', KEYS[2], 'done', 'fence')
if not last[1] then return {0} end
if math.max(tonumber(last[1]), tonumber(last[2] or 0)) >= number then return {-1} end
allow_writes(KEYS[1])
if lease > 0 then redis.call('ZADD', KEYS[1], now_ms() + lease, epoch) end

local function claims_of(queue) return KEYS[3 + 2 * queue] end

-- The envelope of a claim, taken out of the hash.
local function take(queue, claim)
  local envelope = redis.call('HGET', claims_of(queue), claim)
  redis.call('HDEL', claims_of(queue), claim)
  return envelope
end

local reply = {1, -1}

-- Each handler gets the position of its first field and returns that of the next record.
local apply = {}
add_chord_records(apply, reply)

function apply.R(i)
  local last_field = i + 2 * tonumber(ARGV[i])
  for field = i + 1, last_field, 2 do store(result_prefix .. ARGV[field], ttl, ARGV[field + 1]) end
  return last_field + 1
end

function apply.G(i)
  local key = result_prefix .. ARGV[i]
  store_unless_success(key, ARGV[i + 1], ARGV[i + 3], ARGV[i + 2] == '1')
  return i + 4
end

-- To fail here would settle some outcomes without what follows them.
local function bury_unless(done, delayed, envelope, i)
  if type(done) ~= 'table' or not done.err then return end
  local dead = string.gsub(delayed, 'delayed$', 'dead')
  bury(dead, dead .. ':entries', envelope, 'its queue could not take it: ' .. done.err, epoch .. '-' .. number .. '.' .. i, now_ms())
end

function apply.P(i)
  bury_unless(redis.pcall('LPUSH', ARGV[i], ARGV[i + 1]), ARGV[i + 2], ARGV[i + 1], i)
  return i + 3
end

function apply.D(i)
  local _, colon = string.find(ARGV[i + 2], ':', 1, true)
  bury_unless(redis.pcall('ZADD', ARGV[i], ARGV[i + 1], ARGV[i + 2]), ARGV[i], string.sub(ARGV[i + 2], colon + 1), i)
  return i + 3
end

function apply.A(i)
  local n = tonumber(ARGV[i + 1])
  redis.call('HDEL', claims_of(ARGV[i]), unpack(ARGV, i + 2, i + 1 + n))
  return i + 2 + n
end

-- The handler of a record of *size* fields, which begin with a claim: takes it, and does *what* with its envelope.
local function on_claim(size, what)
  return function(i)
    local envelope = take(ARGV[i], ARGV[i + 1])
    if envelope then what(envelope, i) end
    return i + size
  end
end

apply.Q = on_claim(3, function(envelope, i) redis.call('LPUSH', ARGV[i + 2], envelope) end)

apply.U = on_claim(3, function(envelope, i) redis.call('RPUSH', ARGV[i + 2], envelope) end)

apply.B = on_claim(5, function(envelope, i)
  bury(ARGV[i + 2], ARGV[i + 3], envelope, ARGV[i + 4], epoch .. '-' .. ARGV[i + 1], now_ms())
end)

apply.H = on_claim(6, function(envelope, i)
  local count = redeliveries(envelope) + 1
  envelope = with_redeliveries(envelope, count)
  if count > tonumber(ARGV[i + 5]) then
    local reason = 'its process died ' .. count .. ' times while it ran it'
    bury(ARGV[i + 3], ARGV[i + 4], envelope, reason, epoch .. '-' .. ARGV[i + 1], now_ms())
  else
    redis.call('RPUSH', ARGV[i + 2], envelope)
  end
end)

-- Seconds by which clocks may differ unheeded; the way of a request seems to be as much.
local CLOCKS_AGREE = 0.1

apply.W = on_claim(5, function(envelope, i)
  local delayed, step = KEYS[4 + 2 * ARGV[i]], ARGV[i + 3]
  local member = step .. ':' .. envelope
  if redis.call('ZSCORE', delayed, member) then
    -- One of the very same bytes is parked already: a set would keep the two as one.
    local name = string.gsub(epoch .. '-' .. ARGV[i + 1], ':', '.')
    member = step .. '~' .. name .. ':' .. envelope
  end
  local due, time = ARGV[i + 2], redis.call('TIME')
  local ahead = time[1] + time[2] / 1000000 - tonumber(ARGV[i + 4])
  -- A server whose clock is ahead would find it due too early, and the worker would park it again at once.
  if ahead > CLOCKS_AGREE then due = string.format('%.6f', tonumber(due) + ahead) end
  redis.call('ZADD', delayed, due, member)
end)

function apply.S(i)
  redis.call('SREM', ARGV[i], ARGV[i + 1])
  return i + 2
end

local record = at + 8
while record <= #ARGV do record = apply[ARGV[record]](record + 1) end
redis.call('HSET', KEYS[2], 'done', number)

if room <= 0 then return reply end

local function list_of(queue, step) return KEYS[3 + 2 * queues + steps * queue + step] end

-- The list number of each step's text, such as the 1 of '3'.
local step_numbers = {}
for step = 0, steps - 1 do step_numbers[step == 0 and '0' or string.sub(ARGV[6 + step], 2)] = step end

-- Move what is due to the ready lists; the time of what is due next, or nil.
local function move_due(queue, now)
  local delayed = KEYS[4 + 2 * queue]
  local next_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  if not next_due or tonumber(next_due) > tonumber(now) then return next_due end
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, CHUNK)
  for _, member in ipairs(due) do
    local colon = string.find(member, ':', 1, true)
    local step = step_numbers[string.match(member, '^%d+')] or 0
    redis.call('LPUSH', list_of(queue, step), string.sub(member, colon + 1))
  end
  variadic('ZREM', delayed, due)
  return redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
end

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
for queue = 0, queues - 1 do
  local next_due = move_due(queue, now)
  if next_due then
    local wait = math.max(math.ceil((tonumber(next_due) - tonumber(now)) * 1000), 0)
    if reply[2] < 0 or wait < reply[2] then reply[2] = wait end
  end
end

-- How many messages a list holds. What is read is tracked for the caller (CLIENT TRACKING): the server tells
-- of any change. A key of that name that is no list is somebody else's; the other queues are served all the same.
local function length(list)
  local count = redis.pcall('LLEN', list)
  return type(count) == 'number' and count or 0
end

for step = 0, steps - 1 do
  local suffix = ARGV[6 + step]
  for turn = 0, claimed - 1 do
    local queue = (turn + rotation) % claimed
    local list = list_of(queue, step)
    if room > 0 and length(list) > 0 then
      local taken = redis.call('RPOP', list, room)
      local pairs_ = {}
      for i = 1, #taken do
        pairs_[2 * i - 1] = id .. suffix
        pairs_[2 * i] = taken[i]
        id = id + 1
      end
      variadic('HSET', claims_of(queue), pairs_)
      room = room - #taken
      reply[#reply + 1] = steps * queue + step
      reply[#reply + 1] = taken
      if waits and room > 0 then length(list) end  -- our own change has ended the tracking
    end
  end
end
return reply
