-- Says that a gateway lives, and returns how many do: KEYS[1] is the sorted set
-- of gateways by the time when they were last heard, ARGV are the name of this
-- one and the time in microseconds after which one is held for dead.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if ARGV[3] == 'leave' then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], 600000)
return redis.call('ZCARD', KEYS[1])
