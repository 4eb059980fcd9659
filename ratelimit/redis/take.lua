-- Charges every count, or none. KEYS are the counts, all in one slot; for each
-- of them ARGV has 12 values: kind, cost, ahead, debt, the window that debt is
-- of (0: any), six terms of the kind, and a name.
-- A count whose terms have changed is kept by the new ones, even if nothing is
-- taken.
-- Returns the time and whether all had room, then for each count: room, units
-- taken ahead, what is left, and the bounds of its window. -1 for room: the
-- windows that were sent do not hold our time; nothing was done.
-- All numbers are integers of at most 2^53; times are in microseconds.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local all, out, puts = 1, {now, 1}, {}
local min, max = math.min, math.max

local function int(x) return string.format('%.0f', x) end
local function div(a, b) return (a - a % b) / b end
local function keep(key, value, time)
  redis.call('SET', key, value, 'PX', int(min(max(div(time, 1000), 0) + 1000, 2^43)))
end

-- fill returns what is in a bucket after a time.
local function fill(level, time, count, cap)
  if time > (cap - level) / count then return cap end
  return min(level + time * count, cap)
end

-- rate: terms are parts per microsecond, parts per unit, size of the bucket,
-- and how long ago these came into force.
-- Value: r parts time count per burst.
local function rate(key, cost, ahead, debt, of, count, per, burst, age)
  local cap = burst * per
  local level, at, changed = cap, now, false
  local l, last, c, p, u = string.match(redis.call('GET', key) or '', '^r (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if l then
    l, last, c, p, u = tonumber(l), tonumber(last), tonumber(c), tonumber(p), tonumber(u)
    if last > now + 60000000 then last = now end -- a clock that was wrong
    at = max(now, last)
    changed = c ~= count or p ~= per or u ~= burst
    if changed then
      local since = max(last, at - age)
      l, last = fill(min(l, u * p), since - last, c, u * p), since
      if p ~= per then l = div(l, p) * per + math.floor((l % p) * per / p) end
    end
    level = fill(min(l, cap), at - last, count, cap)
  end
  if debt ~= 0 then level = min(level - debt * per, cap) end
  local room = cost <= burst and level >= cost * per
  local got = 0
  if room then got = min(ahead, div(level - cost * per, per)) end
  local function put(take)
    local rest = level
    if take then rest = level - (cost + got) * per end
    if debt ~= 0 or rest ~= level or changed then
      keep(key, 'r ' .. int(rest) .. ' ' .. int(at) .. ' ' .. int(count) .. ' ' .. int(per) .. ' ' .. int(burst), (cap - rest) / count)
    end
    return rest
  end
  return room, got, put
end

-- quota: terms are its size, whether it is only counted, the length of its
-- window (0: of the calendar), start, end and the end of the next window; the
-- name of the window follows in the place of a seventh.
-- Value: q used start end name.
local function quota(key, cost, ahead, debt, of, size, forced, length, start, stop, next, name)
  local used, s, e, n = string.match(redis.call('GET', key) or '', '^q (%-?%d+) (%d+) (%d+) (.*)$')
  used, s, e = tonumber(used or 0), tonumber(s or 0), tonumber(e or 0)
  local changed = used ~= 0 and n ~= name
  if not (n == name and now < e and now >= s - (e - s)) then
    if now >= e then used, s, e = 0, 0, 0 end
    if length == 0 then
      if now >= stop and now < next then start, stop = stop, next end
      if now < start or now >= stop then return nil end
      if s < start then used = 0 end
      s, e = start, stop
    else
      if used ~= 0 then s = min(s, now); e = s + length end
      if used == 0 or now >= e then used, s, e = 0, 0, 0 end
    end
  end
  if of ~= 0 and of ~= s then debt = 0 end
  used = used + debt
  local room = forced == 1 or size - used >= cost
  local got = max(min(ahead, size - used - cost), 0)
  local function put(take)
    local sum = used
    if take then sum = used + cost + got end
    if debt ~= 0 or sum ~= used or changed and e ~= 0 then
      if e == 0 then s, e = now, now + length end
      keep(key, 'q ' .. int(sum) .. ' ' .. int(s) .. ' ' .. int(e) .. ' ' .. name, e - now)
    end
    return sum, s, e
  end
  return room, got, put
end

-- places: a sorted set of places by the time when they end by themselves.
-- Terms are the bound, the first place, the time that places are kept; the
-- name of the gateway follows in the place of a seventh.
local function places(key, cost, ahead, debt, of, bound, first, time, _, _, _, gateway)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now))
  local n = redis.call('ZCARD', key)
  local room = n + cost <= bound
  local got = max(min(ahead, bound - n - cost), 0)
  local function put(take)
    if not take or cost + got == 0 then return n end
    for i = 0, cost + got - 1 do
      redis.call('ZADD', key, int(now + time), gateway .. ':' .. int(first + i))
    end
    redis.call('PEXPIRE', key, int(div(time, 1000) + 1000))
    return n + cost + got
  end
  return room, got, put
end

-- users: a sorted set of users by the time of their last request; beyond the
-- number that is told apart, HyperLogLogs of ten seconds each. Terms are the
-- bound, the time that users are kept, that number; the user follows in the
-- place of a seventh.
local function users(key, cost, ahead, debt, of, bound, time, exact, _, _, _, user)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now - time))
  local n = redis.call('ZCARD', key)
  local told, sum = n < exact, n
  local span = div(now, 10000000)
  if bound > exact then
    local parts = {}
    for i = 0, div(time, 10000000) do parts[i + 1] = key .. ':' .. int(span - i) end
    sum = n + redis.call('PFCOUNT', unpack(parts))
  end
  local known = cost > 0 and redis.call('ZSCORE', key, user)
  local room = known or sum + cost <= bound
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local stop = 0
  if oldest then stop = tonumber(oldest) + time end
  local function put(take)
    if not take or cost == 0 then return sum, 0, stop end
    if known or told then
      redis.call('ZADD', key, int(now), user)
      redis.call('PEXPIRE', key, int(div(time, 1000) + 1000))
      if not known then sum = sum + 1 end
    else
      redis.call('PFADD', key .. ':' .. int(span), user)
      redis.call('PEXPIRE', key .. ':' .. int(span), int(div(time, 1000) + 11000))
    end
    return sum, 0, stop
  end
  return room, 0, put
end

local kinds = {r = rate, q = quota, c = places, u = users}
for i = 1, #KEYS do
  local a = {}
  for j = 2, 11 do a[j] = tonumber(ARGV[(i - 1) * 12 + j]) end
  local room, got, put = kinds[ARGV[(i - 1) * 12 + 1]](KEYS[i], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], ARGV[i * 12])
  if room == nil then return {now, -1} end
  if not room then all, got = 0, 0 end
  puts[i] = put
  local o = 2 + (i - 1) * 5
  out[o + 1], out[o + 2] = room and 1 or 0, got
end
out[2] = all
for i = 1, #KEYS do
  local o = 2 + (i - 1) * 5
  local left, start, stop = puts[i](all == 1)
  out[o + 3], out[o + 4], out[o + 5] = left, start or 0, stop or 0
  if all == 0 then out[o + 2] = 0 end
end
return out
