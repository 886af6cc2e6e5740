-- Replace the states of runs that are still the last of their entries.
--
-- KEYS  1 states
-- ARGV  for each run: name, number, state
-- Returns an array of 1 where it was replaced, else 0.

local done = {}
for i = 1, #ARGV, 3 do
  local last = redis.call('HGET', KEYS[1], ARGV[i])
  local is_last = last and string.match(last, '^%d+') == ARGV[i + 1]
  if is_last then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2]) end
  done[#done + 1] = is_last and 1 or 0
end
return done
