-- Helpers that stand in front of turn.lua and workflow.lua: chords, on the keys of Celery's workers
-- (docs/PROTOCOL.md §5.4). Behind the key of its group a chord has:
--   .s  its size         .t  what was added to that        .j  the parts that have ended, by index
--   .d  the names TASK:INDEX of those counted              .c  which part joins it, or 'done'
--
-- The part that completes a chord stands for it: its message stays claimed until the chord is joined. So if its
-- worker dies, the one that gets this message next counts the same part and finds itself named in .c. A token that
-- is not ours was set by a worker of Celery, and runs out when that one died.

local OURS = 'fastq:'
-- What is told of a complete chord at once: no more than this, in parts and in bytes.
local FEW_PARTS, FEW_BYTES = 1000, 262144

-- The keys of chords that a record of this call completes.
local completed = {}

local function keep(ttl, ...)
  if ttl == '' then return end
  for _, key in ipairs({...}) do redis.call('PEXPIRE', key, ttl) end
end

-- The members of a chord, or nil if they are too many to be told at once.
local function few_members(key, ordered, count)
  if count > FEW_PARTS then return nil end
  local members = redis.call(ordered and 'ZRANGE' or 'LRANGE', key .. '.j', 0, -1)
  local bytes = 0
  for _, member in ipairs(members) do bytes = bytes + #member end
  return bytes <= FEW_BYTES and members or nil
end

-- Count the parts of a chord, of whose names ARGV[first] is the first, and which stand *width* fields each behind
-- these; returns how many were not counted before.
local function count_parts(key, ordered, first, n)
  local last, width = first + n - 1, ordered and 2 or 1
  local add, fields = ordered and 'ZADD' or 'RPUSH', last + 1
  local known, none_known = {}, true
  for i = first, last, CHUNK do
    local replies = redis.call('SMISMEMBER', key .. '.d', unpack(ARGV, i, math.min(i + CHUNK - 1, last)))
    for offset, is_known in ipairs(replies) do
      if is_known == 1 then
        known[ARGV[i + offset - 1]] = true
        none_known = false
      end
    end
  end
  local added = variadic('SADD', key .. '.d', ARGV, first, last)
  if none_known and added == n then  -- as a rule
    variadic(add, key .. '.j', ARGV, fields, fields + width * n - 1)
    return added
  end
  local fresh = {}
  for part = 0, n - 1 do
    local name = ARGV[first + part]
    if not known[name] then
      known[name] = true
      for field = fields + width * part, fields + width * part + width - 1 do fresh[#fresh + 1] = ARGV[field] end
    end
  end
  variadic(add, key .. '.j', fresh)
  return added
end

-- The handlers of records about chords, in *apply*: each gets the position of its first field and returns that of the
-- next record, and J whether it has ended the chord. What is complete goes to *reply*.
local function add_chord_records(apply, reply)
  -- K key, size, ms it is kept             a chord begins
  function apply.K(i)
    redis.call('DEL', ARGV[i] .. '.c')
    set(ARGV[i] .. '.s', ARGV[i + 2], ARGV[i + 1])
    return i + 3
  end

  -- T key, by how many, who says so, ms it is kept   it grows, once however often that is told
  function apply.T(i)
    local key = ARGV[i]
    if redis.call('SADD', key .. '.d', 'extended:' .. ARGV[i + 2]) == 1 then
      redis.call('INCRBY', key .. '.t', ARGV[i + 1])
    end
    keep(ARGV[i + 3], key .. '.t', key .. '.d')
    return i + 4
  end

  -- V key, document, ms it is kept         what describes a group
  function apply.V(i)
    set(ARGV[i], ARGV[i + 2], ARGV[i + 1])
    return i + 3
  end

  -- C key, '1' if ordered, ms it is kept, the same for what describes the group, ms of the claim,
  --   n, (TASK:INDEX)*n, then n times index and member, or if not ordered the member     its parts have ended
  function apply.C(i)
    local key, ordered, ttl, claim, n = ARGV[i], ARGV[i + 1] == '1', ARGV[i + 2], ARGV[i + 4], tonumber(ARGV[i + 5])
    local after = i + 6 + (ordered and 3 or 2) * n
    local owner, size, more = unpack(redis.call('MGET', key .. '.c', key .. '.s', key .. '.t'))
    if owner == 'done' then return after end
    local fresh = count_parts(key, ordered, i + 6, n)
    keep(ttl, key .. '.j', key .. '.s', key .. '.d')
    if more then keep(ttl, key .. '.t') end
    keep(ARGV[i + 3], key)
    local count = redis.call(ordered and 'ZCARD' or 'LLEN', key .. '.j')
    if not size or count < tonumber(size) + tonumber(more or 0) then return after end
    local name = ARGV[i + 5 + n]
    local is_taken = owner and owner ~= OURS .. name
    if is_taken and (fresh > 0 or string.sub(owner, 1, #OURS) == OURS) then return after end
    local told = {key, name, is_taken and 1 or 0, false}
    if not is_taken then
      redis.call('SET', key .. '.c', OURS .. name, 'PX', claim)
      local members = few_members(key, ordered, count)
      if members then
        told[4] = members
        told[5] = redis.call('GET', key)
      end
    end
    completed[key] = true
    reply[#reply + 1] = -1
    reply[#reply + 1] = told
    return after
  end

  -- I fields to pass over, n, key*n        pass over what belongs to the last part of a chord that is not joined yet
  function apply.I(i)
    local after = i + 2 + tonumber(ARGV[i + 1])
    for field = i + 2, after - 1 do
      if completed[ARGV[field]] then return after + tonumber(ARGV[i]) end
    end
    return after
  end

  -- J fields to pass over, key, ms         it is joined; or has been: pass over what belongs to that
  function apply.J(i)
    local key = ARGV[i + 1]
    local owner = redis.call('GET', key .. '.c')
    if owner and string.sub(owner, 1, #OURS) ~= OURS then return i + 3 + tonumber(ARGV[i]) end
    local gone = redis.call('DEL', key .. '.j', key .. '.t', key .. '.s', key .. '.d')
    if not owner and gone == 0 then return i + 3 + tonumber(ARGV[i]) end
    redis.call('SET', key .. '.c', 'done', 'PX', ARGV[i + 2])
    return i + 3, true
  end
end
