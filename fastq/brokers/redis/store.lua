-- Store and announce results; a stored SUCCESS stays as it is.
--
-- ARGV  (key, milliseconds it is kept ('': always), '1' for a SUCCESS, document)*

for i = 1, #ARGV, 4 do store_unless_success(ARGV[i], ARGV[i + 1], ARGV[i + 3], ARGV[i + 2] == '1') end
