-- Keeps members of a sorted set: KEYS[1]; ARGV are a time in microseconds that
-- is added to now, how long the set is kept in ms, whether the members are users
-- that HyperLogLogs count too, and the members. Those that have gone come back.
local t = redis.call('TIME')
local real = t[1] * 1000000 + t[2]
local now = real + ARGV[1]
local sketch = KEYS[1] .. ':' .. string.format('%.0f', (real - real % 10000000) / 10000000)
for i = 4, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[i])
  if ARGV[3] == '1' then redis.call('PFADD', sketch, ARGV[i]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[3] == '1' then redis.call('PEXPIRE', sketch, ARGV[2] + 10000) end
return 1
