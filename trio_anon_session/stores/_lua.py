"""What a Valkey or Redis server does for `RedisStore`, as scripts that it runs as a whole.

How this works
    They do what ``_entry`` does. Under a name there are:

    ==========  ======  ====================================================================
    key         type    holds
    ==========  ======  ====================================================================
    state       hash    ``version``; ``latest``, the largest time that was seen; ``owner`` and
                        ``claimed``, until what was claimed last is put or released
    token       hash    ``record``, ``mark``, ``lifetime``; lives as long as the token
    lease       string  nothing; lives as long as the lease
    failure     hash    ``record``, ``fence``; lives as long as it is remembered
    dead:MARK   string  nothing; lives as long as the mark is to be known
    ==========  ======  ====================================================================

    The server's clock is the only one: a token's age is its lifetime without what is left of
    its key's life, and at least the time since its lease was claimed. If the clock is set back by
    more than a second, nobody knows how long the token and the lease have lived, and both go. A
    step that is shorter than the time since the last question cannot be seen. Every key ends by
    itself, and ``state`` a day after all others. A new version is at least the time in
    microseconds. So it is larger than any before, even if ``state`` is lost, or replaced by an old
    copy.

    What is of another type, or makes no sense, is somebody else's, and makes way.

    A version is compared as the text that it is. Nothing is written into the text of a script,
    so that the server keeps but these seven. Redis from 6 on and Valkey run them.
"""

from __future__ import annotations

KEYS = ("state", "token", "lease", "failure")
"""The keys that each script is given first, in this order; those of marks follow."""

DAY = 86_400_000
"""Milliseconds for which the version outlives all else."""

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
    -- A server that cannot write can be looked at all the same.
    if redis.call('EXISTS', state) == 1 then redis.pcall('HSET', state, 'latest', now) end
end

local function version()
    local known = redis.call('HGET', state, 'version')
    -- A larger one is no whole number for Lua.
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

-- A user who may not publish has no news, and everything else.
local function tell(channel) redis.pcall('PUBLISH', channel, '') end
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
    redis.call('PTTL', failure), dead
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
local fence, record, mark, lifetime, life, age, channel = unpack(ARGV)
if not holds_lease(fence) then return 0 end
local claimed = string.match(redis.call('HGET', state, 'claimed') or '', '^%d+$')
local left = life - math.max(age, claimed and milliseconds_now - claimed or 0)
redis.call('HDEL', state, 'owner', 'claimed')
redis.call('DEL', lease, failure, token, KEYS[5])
redis.call('HSET', token, 'record', record, 'mark', mark, 'lifetime', lifetime)
redis.call('PEXPIRE', token, string.format('%.0f', left))
outlive(left)
tell(channel)
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
tell(channel)
return 1
"""
)

# The token goes first: a server without memory lets a script go on that has made some free.
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
tell(channel)
return 1
"""
)

PUBLISH = "return redis.call('PUBLISH', ARGV[1], '')"
