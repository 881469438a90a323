-- Latency from the clients' port to the backends' port, under load: every millisecond a packet with the time in it,
-- among those of 10,100 connections. Pktgen tells the least, the mean and the greatest; percentiles are TRex's to tell.
--
--     pktgen ... -f latency.lua          started in the folder of this file
--
-- To be changed here: the loads. Take 10, 50 and 90 per cent of the zero-loss rate that zero_loss.lua has found.

package.path = package.path .. ";?.lua"
local setup = require("setup")

local loads = { 5, 25, 45 }
local seconds = 30

setup.traffic()
setup.open()
print("   load        packets   skipped    least us     mean us  greatest us      lost")
for _, load in ipairs(loads) do
    for _, port in ipairs({ setup.clients, setup.backends }) do
        pktgen.latency(port, "enable")
        pktgen.latency(port, "rate", 1000)
    end
    local result = setup.trial({ setup.clients }, load, seconds * 1000)
    local latency = pktgen.pktStats(setup.backends)[tonumber(setup.backends)].latency
    print(string.format("%5.1f %%  %11d %9d %11.2f %11.2f %12.2f %9d", load, latency.num_pkts, latency.num_skipped,
        latency.min_us, latency.avg_us, latency.max_us, result.lost))
    for _, port in ipairs({ setup.clients, setup.backends }) do
        pktgen.latency(port, "disable")
    end
end
