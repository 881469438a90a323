-- Zero-loss rate, in the manner of RFC 2544: the highest rate at which no packet is lost, by halving the interval, then
-- confirmed for a minute. Clients and replies at the same time, 10,100 connections, one frame size after the other.
--
--     pktgen ... -f zero_loss.lua        started in the folder of this file; the result is zero_loss.txt

package.path = package.path .. ";?.lua"
local setup = require("setup")

local sizes = { 64, 128, 256, 512, 1024, 1280, 1518 }
local trial = 10000
local confirmation = 60000
-- The search ends when it knows the rate to this many per cent of the line.
local width = 0.5
-- A generator that sends less than this share of what it was told is the limit itself.
local enough = 0.98

local file = assert(io.open("zero_loss.txt", "w"))

local function say(text)
    print(text)
    file:write(text, "\n")
    file:flush()
end

local both = { setup.clients, setup.backends }

-- One trial; whether nothing was lost.
local function passes(bytes, rate, milliseconds)
    local result = setup.trial(both, rate, milliseconds)
    local told = setup.line_rate(bytes) * #both * rate / 100
    local note = result.pps < told * enough and "  (the generator does not send more)" or ""
    say(string.format("  %6.2f %% of the line: %10.3f Mpps sent, %d of %d lost%s",
        rate, result.pps / 1e6, result.lost, result.sent, note))
    return result.sent > 0 and result.lost == 0, result.pps
end

-- Rate in per cent of the line, and packets a second in both directions together.
local function search(bytes)
    local passed, pps = passes(bytes, 100, trial)
    if passed then
        return 100, pps
    end
    local low, high = 0, 100
    local best = 0
    while high - low > width do
        local rate = (low + high) / 2
        passed, pps = passes(bytes, rate, trial)
        if passed then
            low, best = rate, pps
        else
            high = rate
        end
    end
    return low, best
end

setup.traffic()
setup.open()
for _, bytes in ipairs(sizes) do
    say(string.format("%d bytes", bytes))
    setup.size(bytes)
    local rate, pps = search(bytes)
    -- What held for ten seconds may not hold for sixty: then a little less does.
    while rate > width and not passes(bytes, rate, confirmation) do
        rate = rate - width
        pps = setup.line_rate(bytes) * #both * rate / 100
    end
    say(string.format("%d bytes: zero loss at %.2f %% of the line, %.3f Mpps in both directions together",
        bytes, rate, pps / 1e6))
end
file:close()
