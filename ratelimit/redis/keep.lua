-- Keeps members of a sorted set: KEYS[1]; ARGV are a time in microseconds that
-- is added to now, and the members. Those that have gone come back.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2] + ARGV[1]
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
