"""The scripts of `RedisStore`. The server runs each one atomically.

How this works
    The scripts do the same as ``_entry``. A name has these keys:

    ==========  ======  ====================================================================
    key         type    holds
    ==========  ======  ====================================================================
    state       hash    ``version``; ``latest``, the largest time that was seen; ``owner`` and
                        ``claimed``, from a claim until the put or release
    token       hash    ``record``, ``mark``, ``lifetime``, ``fence``, ``ends``: when the token
                        expires, if the record is encrypted; expires with the token
    lease       string  empty; expires with the lease
    failure     hash    ``record``, ``fence``; expires when the failure is forgotten
    dead:MARK   string  empty; expires when the drop is forgotten
    ==========  ======  ====================================================================

    Only the server's clock counts. A token's age is its lifetime minus the remaining time of its
    key, and at least the time since its lease was claimed. If the clock is set back by more than a
    second, the ages of token and lease are unknown, and the script deletes both. It cannot detect a
    step that is shorter than the time since the last request. Every key expires, ``state`` a day
    after all others. A new version is at least the time in microseconds. So it is larger than all
    earlier versions, even if ``state`` is lost or replaced by an old copy.

    A key with another type or an invalid value was written by another program, and is replaced.

    An encrypted record is bound to the other fields of its hash. So ``ends`` is known before the
    put, and the key never outlives it.

    Versions are compared as text. No script contains values, so that the server caches only these
    eight scripts. Valkey and Redis 6 or later can run them.
"""

from __future__ import annotations

KEYS = ("state", "token", "lease", "failure")
"""The first keys of each script, in this order. The keys of marks follow."""

DAY = 86_400_000
"""Milliseconds for which the version outlives all other keys."""

_COMMON = f"""
local state, token, lease, failure = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
for key, type in pairs({{[state] = 'hash', [token] = 'hash', [lease] = 'string',
                        [failure] = 'hash'}}) do
    local found = redis.call('TYPE', key)['ok']
    if found ~= type and found ~= 'none' then redis.call('DEL', key) end
end

local function outlive(milliseconds)
    local wanted = milliseconds + {DAY}
    if redis.call('PTTL', state) < wanted then
        redis.call('PEXPIRE', state, string.format('%.0f', wanted))
    end
end

local time = redis.call('TIME')
local microseconds_now = time[1] * 1000000 + time[2]
local milliseconds_now = math.floor(microseconds_now / 1000)
local now = string.format('%.0f', milliseconds_now)
local latest = string.match(redis.call('HGET', state, 'latest') or '', '^%d+$')
latest = latest and tonumber(latest)
if latest and latest > milliseconds_now + 1000 then redis.call('DEL', token, lease) end
if not latest or math.abs(latest - milliseconds_now) > 1000 then
    -- A read-only server can still answer a look.
    if redis.call('EXISTS', state) == 1 then redis.pcall('HSET', state, 'latest', now) end
end

local function version()
    local known = redis.call('HGET', state, 'version')
    -- Lua cannot represent larger integers.
    local is_number = known and string.match(known, '^[1-9]%d*$')
    if is_number and tonumber(known) < 2 ^ 53 then return known end
    known = string.format('%.0f', microseconds_now)
    if redis.call('EXISTS', state) == 1 then redis.call('DEL', state) end
    redis.call('HSET', state, 'version', known, 'latest', now)
    outlive(0)
    return known
end

local function advance()
    local following = math.max(version() + 1, microseconds_now)
    redis.call('HSET', state, 'version', string.format('%.0f', following))
    return following
end

local function holds_lease(fence)
    return redis.call('HGET', state, 'version') == fence and redis.call('HGET', state, 'owner')
end

-- Everything else works for a user who has no right to publish.
local function notify(channel) redis.pcall('PUBLISH', channel, '') end
"""

LOOK = (
    _COMMON
    + """
local dead = {}
for i = 5, #KEYS do dead[i - 4] = redis.call('EXISTS', KEYS[i]) end
return {
    version(), redis.call('HGET', state, 'owner'), redis.call('PTTL', lease),
    redis.call('HGET', token, 'record'), redis.call('HGET', token, 'mark'),
    redis.call('HGET', token, 'lifetime'), redis.call('PTTL', token),
    redis.call('HGET', failure, 'record'), redis.call('HGET', failure, 'fence'),
    redis.call('PTTL', failure), dead,
    redis.call('HGET', token, 'fence'), redis.call('HGET', token, 'ends'), now
}
"""
)

CLAIM = (
    _COMMON
    + """
local owner, seen, milliseconds = unpack(ARGV)
if version() ~= seen or redis.call('PTTL', lease) > 0 then return false end
local fence = advance()
redis.call('HSET', state, 'owner', owner, 'claimed', now)
redis.call('SET', lease, '', 'PX', milliseconds)
outlive(milliseconds)
return fence
"""
)

RENEW = (
    _COMMON
    + """
local fence, milliseconds = unpack(ARGV)
if not holds_lease(fence) then return 0 end
redis.call('SET', lease, '', 'PX', milliseconds)
outlive(milliseconds)
return 1
"""
)

PUT = (
    _COMMON
    + """
local fence, record, mark, lifetime, life, age, ends, channel = unpack(ARGV)
if not holds_lease(fence) then return 0 end
local claimed = string.match(redis.call('HGET', state, 'claimed') or '', '^%d+$')
local left = life - math.max(age, claimed and milliseconds_now - claimed or 0)
if ends ~= '' then left = math.min(left, ends - milliseconds_now) end
redis.call('HDEL', state, 'owner', 'claimed')
redis.call('DEL', lease, failure, token, KEYS[5])
redis.call('HSET', token, 'record', record, 'mark', mark, 'lifetime', lifetime, 'fence', fence,
           'ends', ends)
redis.call('PEXPIRE', token, string.format('%.0f', left))
outlive(left)
notify(channel)
return 1
"""
)

RELEASE = (
    _COMMON
    + """
local fence, milliseconds, channel, record = unpack(ARGV)
if not holds_lease(fence) then return 0 end
redis.call('HDEL', state, 'owner', 'claimed')
redis.call('DEL', lease)
if record then
    redis.call('DEL', failure)
    redis.call('HSET', failure, 'record', record, 'fence', fence)
    redis.call('PEXPIRE', failure, milliseconds)
end
outlive(milliseconds)
notify(channel)
return 1
"""
)

# Delete the token first. A server without free memory refuses other writes, unless the script has
# already deleted something.
DROP = (
    _COMMON
    + """
local mark, milliseconds, channel = unpack(ARGV)
if redis.call('HGET', token, 'mark') == mark then
    redis.call('DEL', token, lease)
    advance()
    redis.call('HDEL', state, 'owner', 'claimed')
end
redis.call('SET', KEYS[5], '', 'PX', milliseconds)
outlive(milliseconds)
notify(channel)
return 1
"""
)

TIME = """
local time = redis.call('TIME')
return math.floor(time[1] * 1000 + time[2] / 1000)
"""

PUBLISH = "return redis.call('PUBLISH', ARGV[1], '')"
