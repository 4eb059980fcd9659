-- Charges every count, or none. KEYS are the counts, all in one slot. ARGV[1] is
-- how many requests ask for the same; as many are charged as all counts have
-- room for. Then for each count ARGV has 14 values: kind, cost, ahead, debt, the
-- window that debt is of (0: any), seven terms of the kind, a name, and the
-- serial of debt (GATEWAY:NUMBER, or + and the id of a top-up, or nothing).
-- A count whose terms have changed is kept by the new ones, even if nothing is
-- taken. A debt whose serial was seen is not charged again.
-- Returns the time and how many were charged, then for each count: whether one
-- more had room, units taken ahead, what is left, the bounds of its window, and
-- how much of debt lay beyond it. -1 for the number: the windows that were sent
-- do not hold our time; nothing was done.
-- All numbers are integers of at most 2^53; times are in microseconds.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local times = tonumber(ARGV[1])
local all, out, puts = times, {now, 0}, {}
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

-- seen reports whether a list of serials has this one or a later one of the
-- same gateway, and returns the list with it. The last 16 gateways are known.
local function seen(list, serial)
  local who, number = string.match(serial, '^(%x+):(%d+)$')
  if not who then return false, list end
  local with, n = ' ' .. serial, 1
  for w, m in string.gmatch(list, ' (%x+):(%d+)') do
    if w == who then
      if tonumber(m) >= tonumber(number) then return true, list end
    elseif n < 16 then
      with, n = with .. ' ' .. w .. ':' .. m, n + 1
    end
  end
  return false, with
end

-- rate: terms are parts per microsecond, parts per unit, size of the bucket,
-- and how long ago these came into force.
-- Value: r parts time count per burst, and serials.
local function rate(key, cost, ahead, debt, of, count, per, burst, age, _, _, _, _, serial)
  local cap = burst * per
  local level, at, changed, list, again = cap, now, false, '', false
  local l, last, c, p, u, s = string.match(redis.call('GET', key) or '', '^r (%-?%d+) (%d+) (%d+) (%d+) (%d+)(.*)$')
  if l then
    l, last, c, p, u, list = tonumber(l), tonumber(last), tonumber(c), tonumber(p), tonumber(u), s
    local set = last > now + 1000000
    if set then last = now end -- the clock was set back: time counts from here
    at = max(now, last)
    changed = c ~= count or p ~= per or u ~= burst
    if changed then
      local since = max(last, at - age)
      l, last = fill(min(l, u * p), since - last, c, u * p), since
      if p ~= per then l = div(l, p) * per + math.floor((l % p) * per / p) end
    end
    level = fill(min(l, cap), at - last, count, cap)
    changed = changed or set
  end
  if debt ~= 0 then again, list = seen(list, serial) end
  if again then debt = 0 end
  if debt ~= 0 then level = min(level - debt * per, cap) end
  local fit = 0
  if cost == 0 then fit = times elseif cost <= burst then fit = div(max(level, 0), cost * per) end
  local function put(n)
    local rest, got = level - n * cost * per, 0
    if n > 0 then got = min(ahead, div(max(rest, 0), per)) end
    rest = rest - got * per
    if debt ~= 0 or rest ~= level or changed then
      keep(key, 'r ' .. int(rest) .. ' ' .. int(at) .. ' ' .. int(count) .. ' ' .. int(per) .. ' ' .. int(burst) .. list, (cap - rest) / count)
    end
    return got, rest - (at - now) * count, 0, 0, 0
  end
  return fit, put
end

-- quota: terms are its size, whether it is only counted, the length of its
-- window (0: of the calendar), start, end and the end of the next window, and
-- how long ago they came into force. Where a count goes by another window that
-- came into force later, it is counted in that one: our gateway is behind.
-- Value: q used start end since name, and serials.
local function quota(key, cost, ahead, debt, of, size, forced, length, start, stop, next, age, name, serial)
  local used, s, e, since, n, list = string.match(redis.call('GET', key) or '', '^q (%-?%d+) (%d+) (%d+) (%d+) (%S+)(.*)$')
  used, s, e, list = tonumber(used or 0), tonumber(s or 0), tonumber(e or 0), list or ''
  local from, again, over = now - age, false, 0
  if n == name then
    from = max(from, tonumber(since))
  elseif n and now < e and tonumber(since) > from then
    name, from = n, tonumber(since)
  end
  local changed = used ~= 0 and n ~= name
  if not (n == name and now < e and now >= s - (e - s)) then
    if now >= e then used, s, e, list = 0, 0, 0, '' end
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
  local mark = string.match(serial, '^%+') and key .. ':' .. serial
  if debt ~= 0 then
    if mark then again = redis.call('EXISTS', mark) == 1 else again, list = seen(list, serial) end
  end
  if again or of ~= 0 and of ~= s then debt = 0 end
  if debt > 0 then over = max(min(debt, used + debt - size), 0) end
  used = used + debt
  local fit = times
  if forced == 0 and cost > 0 then fit = div(max(size - used, 0), cost) end
  local function put(k)
    local sum, got = used + k * cost, 0
    if k > 0 then got = max(min(ahead, size - sum), 0) end
    sum = sum + got
    if debt ~= 0 or sum ~= used or changed and e ~= 0 then
      if e == 0 then s, e = now, now + length end
      keep(key, 'q ' .. int(sum) .. ' ' .. int(s) .. ' ' .. int(e) .. ' ' .. int(from) .. ' ' .. name .. list, e - now)
      if mark and debt ~= 0 then keep(mark, '1', e - now) end
    end
    return got, sum, s, e, over
  end
  return fit, put
end

-- places: a sorted set of places by the time when they end by themselves.
-- Terms are the bound, the first place, the time that places are kept; the
-- name of the gateway follows.
-- Gateways whose requests wait ask ahead, and stand in a line by the time of
-- their first such question: one place is kept for each that came before, as
-- long as it goes on asking.
local function places(key, cost, ahead, debt, of, bound, first, time, _, _, _, _, gateway)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now))
  local n = redis.call('ZCARD', key)
  local line, said = key .. ':line', key .. ':said'
  local before = redis.call('ZCARD', line)
  if before > 0 then
    for _, g in ipairs(redis.call('ZRANGEBYSCORE', said, '-inf', int(now - 300000))) do
      redis.call('ZREM', line, g)
      redis.call('ZREM', said, g)
    end
    before = redis.call('ZRANK', line, gateway) or redis.call('ZCARD', line)
  end
  local free = max(bound - n - before, 0)
  local fit = times
  if cost > 0 then fit = div(free, cost) end
  local function put(k)
    local took, got = k * cost, 0
    if k > 0 then got = min(ahead, free - took) end
    took = took + got
    for i = 0, took - 1 do
      redis.call('ZADD', key, int(now + time), gateway .. ':' .. int(first + i))
    end
    if took > 0 then redis.call('PEXPIRE', key, int(div(time, 1000) + 1000)) end
    if ahead > 0 then
      if got > 0 then redis.call('ZREM', line, gateway) end
      if got < ahead then
        redis.call('ZADD', line, 'NX', int(now), gateway)
        redis.call('ZADD', said, int(now), gateway)
        redis.call('PEXPIRE', line, 5000)
        redis.call('PEXPIRE', said, 5000)
      end
    end
    return got, n + took, 0, 0, 0
  end
  return fit, put
end

-- users: a sorted set of users by the time of their last request. A bound
-- beyond the number that is told apart has HyperLogLogs of ten seconds each
-- besides, of all users: they count while there are users that are not told
-- apart, and for a minute after. Terms are the bound, the time that users are
-- kept, that number; the user follows.
local function users(key, cost, ahead, debt, of, bound, time, exact, _, _, _, _, user)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now - time))
  local n = redis.call('ZCARD', key)
  local told, sum = n < exact, n
  local span, crowd = div(now, 10000000), key .. ':crowd'
  if bound > exact and redis.call('EXISTS', crowd) == 1 then
    local parts = {}
    for i = 0, div(time, 10000000) do parts[i + 1] = key .. ':' .. int(span - i) end
    sum = max(n, redis.call('PFCOUNT', unpack(parts)))
  end
  local known = cost > 0 and redis.call('ZSCORE', key, user)
  local fit = times
  if cost > 0 and not known then fit = max(bound - sum, 0) end
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local stop = 0
  if oldest then stop = tonumber(oldest) + time end
  local function put(k)
    if k == 0 or cost == 0 then return 0, sum, 0, stop, 0 end
    if known or told then
      redis.call('ZADD', key, int(now), user)
      redis.call('PEXPIRE', key, int(div(time, 1000) + 1000))
      if not known then sum = sum + 1 end
    else
      redis.call('SET', crowd, '1', 'PX', int(div(time, 1000) + 11000))
    end
    if bound > exact then
      redis.call('PFADD', key .. ':' .. int(span), user)
      redis.call('PEXPIRE', key .. ':' .. int(span), int(div(time, 1000) + 11000))
    end
    return 0, sum, 0, stop, 0
  end
  return fit, put
end

local kinds = {r = rate, q = quota, c = places, u = users}
local fits = {}
for i = 1, #KEYS do
  local a, at = {}, 1 + (i - 1) * 14
  for j = 2, 12 do a[j] = tonumber(ARGV[at + j]) end
  local fit, put = kinds[ARGV[at + 1]](KEYS[i], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], ARGV[at + 13], ARGV[at + 14])
  if fit == nil then return {now, -1} end
  fits[i], puts[i] = fit, put
  all = min(all, fit)
end
out[2] = all
for i = 1, #KEYS do
  local got, left, start, stop, over = puts[i](all)
  out[#out + 1] = fits[i] > all and 1 or 0
  out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4], out[#out + 5] = got, left, start, stop, over
end
return out
