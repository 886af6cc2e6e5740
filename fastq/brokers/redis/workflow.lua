-- Tell of chords, where messages lie in another store.
--
-- ARGV  records, each a letter and its fields: see chords.lua
-- Returns the pairs -1 and what a chord is that is complete now, as chords.lua tells it; then, behind a 0, how many
-- chords have ended by this call.

local reply, apply, joined = {}, {}, 0
add_chord_records(apply, reply)

local record = 1
while record <= #ARGV do
  local has_ended
  record, has_ended = apply[ARGV[record]](record + 1)
  if has_ended then joined = joined + 1 end
end
reply[#reply + 1] = 0
reply[#reply + 1] = joined
return reply
