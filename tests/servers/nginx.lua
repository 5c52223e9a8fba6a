-- The script that nginx.t gives to wrk: it compares every body with a file. usage: wrk -s nginx.lua URL --
-- FILE Each of wrk's threads has an interpreter of its own; done() runs in one more, and asks the others.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    wanted = assert(io.open(args[1], 'rb')):read('*a')
    right, wrong = 0, 0
    wrk.headers['Accept-Encoding'] = 'identity'
end

function response(status, headers, body)
    if status == 200 and body == wanted then
        right = right + 1
    else
        wrong = wrong + 1
    end
end

function done()
    local all_right, all_wrong = 0, 0
    for _, thread in ipairs(threads) do
        all_right = all_right + thread:get('right')
        all_wrong = all_wrong + thread:get('wrong')
    end
    print('bodies: ' .. all_right .. ' right, ' .. all_wrong .. ' wrong')
end
