-- Take the runs of entries whose numbers follow, and send their messages.
--
-- KEYS  1 states  2 facts
-- ARGV  1 version of the entries, then for each run: name, number, state, count of commands, and for each
--       command: count of its words, its words
-- Returns an array with, for each run, '' if it was taken, 'number' if not, or the error of one of its commands; then
-- what it had done before stays done, and it was taken if that was anything. Returns false, and has no effect, when the
-- version is another.

if ARGV[1] ~= (redis.call('HGET', KEYS[2], 'version') or '0') then return false end

local said, i = {}, 2

local function next_command()
  local last = i + tonumber(ARGV[i])
  local command = {unpack(ARGV, i + 1, last)}
  i = last + 1
  return command
end

while i <= #ARGV do
  local name, number, state, commands = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3])
  i = i + 4
  local last = redis.call('HGET', KEYS[1], name)
  local follows = number == tonumber(last and string.match(last, '^%d+') or 0) + 1
  local problem = follows and '' or 'number'
  local sent = 0
  for _ = 1, commands do
    local command = next_command()
    if problem == '' then
      local done = redis.pcall(unpack(command))
      if type(done) == 'table' and done.err then problem = done.err else sent = sent + 1 end
    end
  end
  if problem == '' or sent > 0 then redis.call('HSET', KEYS[1], name, number .. ' ' .. state) end
  said[#said + 1] = problem
end
return said
