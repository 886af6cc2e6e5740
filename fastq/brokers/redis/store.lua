-- Store and announce results; a stored SUCCESS stays as it is.
--
-- ARGV  (key, milliseconds it is kept ('': always), document)*

for i = 1, #ARGV, 3 do store_unless_success(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
