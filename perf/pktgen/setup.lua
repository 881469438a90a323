-- What the Pktgen-DPDK scripts beside this file have in common: addresses, which match vipgate.yaml and manifests/,
-- and how traffic is set up and counted. To be changed here: the MAC addresses of vipgate's ports.

local setup = {
    -- Pktgen's ports, as cabled.
    clients = "0",
    backends = "1",
    -- MAC addresses of vipgate's ports: on the gateway, `ip -br link show vg-outside` and `vg-inside`.
    outside_mac = "02:00:00:00:00:01",
    inside_mac = "02:00:00:00:00:02",

    -- The Service `one` and its backend.
    vip = "203.0.113.10",
    vip_port = 80,
    backend = "10.0.1.10",
    backend_port = 8080,

    -- In range mode all fields step with every packet. Numbers of addresses and ports that have no common divisor meet
    -- in all pairs: 10,100 connections. Pktgen builds its packets once, in the buffers of a transmit queue: more pairs
    -- than buffers (32,768 with its defaults) are not sent.
    first_client = "198.18.0.1",
    last_client = "198.18.0.100",
    first_port = 1024,
    last_port = 1124,
}

-- One field of a port's range: from first to last by steps of one, or always the same.
local function range(field, port, first, last, step)
    field(port, "start", first)
    field(port, "min", first)
    field(port, "max", last)
    field(port, "inc", step)
end

-- Frames of this length, with FCS.
function setup.size(bytes)
    for _, port in ipairs({ setup.clients, setup.backends }) do
        pktgen.set(port, "size", bytes)
        range(pktgen.range.pkt_size, port, bytes, bytes, 0)
    end
end

-- Clients on one port, the backend's replies on the other.
function setup.traffic()
    local clients, backends = setup.clients, setup.backends
    pktgen.screen("off")
    pktgen.reset("all")
    for _, port in ipairs({ clients, backends }) do
        pktgen.set(port, "count", 0)
        pktgen.set_type(port, "ipv4")
        pktgen.set_proto(port, "udp")
        pktgen.range.ip_proto(port, "udp")
        range(pktgen.range.ttl, port, 64, 64, 0)
    end

    -- The single packet of each port is what latency packets are made from.
    pktgen.set_mac(clients, "dst", setup.outside_mac)
    pktgen.set_ipaddr(clients, "src", setup.first_client .. "/32")
    pktgen.set_ipaddr(clients, "dst", setup.vip)
    pktgen.set(clients, "sport", setup.first_port)
    pktgen.set(clients, "dport", setup.vip_port)
    pktgen.set_mac(backends, "dst", setup.inside_mac)
    pktgen.set_ipaddr(backends, "src", setup.backend .. "/32")
    pktgen.set_ipaddr(backends, "dst", setup.first_client)
    pktgen.set(backends, "sport", setup.backend_port)
    pktgen.set(backends, "dport", setup.first_port)

    pktgen.range.dst_mac(clients, "start", setup.outside_mac)
    range(pktgen.range.src_ip, clients, setup.first_client, setup.last_client, "0.0.0.1")
    range(pktgen.range.src_port, clients, setup.first_port, setup.last_port, 1)
    range(pktgen.range.dst_ip, clients, setup.vip, setup.vip, "0.0.0.0")
    range(pktgen.range.dst_port, clients, setup.vip_port, setup.vip_port, 0)

    pktgen.range.dst_mac(backends, "start", setup.inside_mac)
    range(pktgen.range.src_ip, backends, setup.backend, setup.backend, "0.0.0.0")
    range(pktgen.range.src_port, backends, setup.backend_port, setup.backend_port, 0)
    range(pktgen.range.dst_ip, backends, setup.first_client, setup.last_client, "0.0.0.1")
    range(pktgen.range.dst_port, backends, setup.first_port, setup.last_port, 1)

    pktgen.set_range("all", "on")
    setup.size(64)
end

-- Opens every connection, before replies are sent: a reply without a connection is dropped, as it should be.
function setup.open()
    pktgen.set(setup.clients, "rate", 1)
    pktgen.start(setup.clients)
    pktgen.delay(2000)
    pktgen.stop(setup.clients)
    pktgen.delay(500)
end

-- Sends from these ports at a rate in per cent of the line for so many milliseconds, waits for what is on its way, and
-- counts. `lost` is what was sent and not received at the other end.
function setup.trial(ports, rate, milliseconds)
    for _, port in ipairs(ports) do
        pktgen.set(port, "rate", rate)
    end
    pktgen.clr()
    for _, port in ipairs(ports) do
        pktgen.start(port)
    end
    pktgen.delay(milliseconds)
    for _, port in ipairs(ports) do
        pktgen.stop(port)
    end
    pktgen.delay(2000)
    local result = { sent = 0, lost = 0 }
    for _, port in ipairs(ports) do
        local other = port == setup.clients and setup.backends or setup.clients
        local sent = pktgen.portStats(port, "port")[tonumber(port)].opackets
        local received = pktgen.portStats(other, "port")[tonumber(other)].ipackets
        result.sent = result.sent + sent
        result.lost = result.lost + math.max(sent - received, 0)
    end
    result.pps = result.sent * 1000 / milliseconds
    return result
end

-- Packets a second that the line takes in one direction.
function setup.line_rate(bytes)
    local port = setup.clients
    local megabits = tonumber(string.match(pktgen.linkState(port)[tonumber(port)], "%d+"))
    return megabits * 1e6 / ((bytes + 20) * 8)
end

return setup
