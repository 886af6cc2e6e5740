-- Look at the schedule that beats share, and take or renew the lease where that may be.
--
-- KEYS  1 lease  2 facts
-- ARGV  1 beat  2 ms that a lease holds  3 a token that is stale, or ''  4 what stands for the names  5 the names, JSON
-- Returns {unix seconds now, token or '', version, what stands for the names that are served, seconds at which a
-- leader last looked before this, or '0'}.

local token = redis.call('GET', KEYS[1]) or ''
local facts = redis.call('HMGET', KEYS[2], 'version', 'served', 'alive', 'renewals')
local now = string.format('%.6f', now_ms() / 1000)
local holder = string.match(token, '^(.*) %d+$')
local served = facts[2] or ''
if not holder or holder == ARGV[1] or token == ARGV[3] then
  local renewals = (facts[4] or 0) + 1
  token = ARGV[1] .. ' ' .. renewals
  redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
  redis.call('HSET', KEYS[2], 'alive', now, 'renewals', renewals)
  if served ~= ARGV[4] and ARGV[5] ~= '' then
    served = ARGV[4]
    redis.call('HSET', KEYS[2], 'served', served, 'names', ARGV[5])
  end
end
return {now, token, tonumber(facts[1] or 0), served, facts[3] or '0'}
