-- redis.t's collections: lists, sets, hashes and sorted sets, both the small that redis packs into one block
-- and the large that it does not. usage: redis-cli --eval redis.lua , build COUNT | read Gives a checksum of
-- all that is found: of COUNT collections after "build".
local function members(key)
    local kind = redis.call('TYPE', key).ok
    if kind == 'list' then
        return redis.call('LRANGE', key, 0, -1)
    elseif kind == 'zset' then
        return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif kind == 'set' then
        local found = redis.call('SMEMBERS', key)
        table.sort(found)
        return found
    end
    local found, pairs = redis.call('HGETALL', key), {}
    for i = 1, #found, 2 do
        pairs[#pairs + 1] = found[i] .. '=' .. found[i + 1]
    end
    table.sort(pairs)
    return pairs
end

if ARGV[1] == 'build' then
    for i = 1, tonumber(ARGV[2]) do
        local key = 'collection:' .. i
        for j = 1, (i % 100 == 0) and 1000 or i % 20 + 1 do
            local value = string.rep(tostring(i * j), j % 9 + 1)
            if i % 4 == 0 then
                redis.call(j % 3 == 0 and 'LPUSH' or 'RPUSH', key, value)
            elseif i % 4 == 1 then
                redis.call('SADD', key, value)
            elseif i % 4 == 2 then
                redis.call('HSET', key, 'field' .. j, value)
            else
                redis.call('ZADD', key, i * j % 1009, value)
            end
        end
    end
end

local keys = redis.call('KEYS', 'collection:*')
table.sort(keys)
local digest = ''
for _, key in ipairs(keys) do
    digest = redis.sha1hex(digest .. key .. table.concat(members(key), ','))
end
return #keys .. ' collections, ' .. digest
