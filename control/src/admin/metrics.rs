//! `/metrics`: counters read when Prometheus asks, in OpenMetrics text.
//!
//! No label names a client or a flow. Services have series of their own once something was counted for them, and only so
//! many of them; the number of all others is fixed by the configuration.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::service::tally::Count;
use dataplane::stages::Stage;
use dataplane::verdict::DropReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, info::Info};
use prometheus_client::registry::{Registry, Unit};

use super::status::{PortStatus, Status};
use super::traffic::{REFUSALS, Series};
use super::{Admin, WorkerFacts};
use crate::{dns, events};

/// A registry that reads from `admin`.
pub(super) fn registry(admin: Arc<Admin>) -> Registry {
    let mut registry = Registry::with_prefix("vipgate");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The running version", build);
    registry.register_collector(Box::new(admin));
    registry
}

/// What `/metrics` answers.
pub(super) fn encode(registry: &Registry) -> String {
    let mut body = String::new();
    // Only a collector can fail, and ours only if writing to a String does.
    text::encode(&mut body, registry).expect("a String takes any text");
    body
}

impl Collector for Admin {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.figures();
        let mut out = Out(encoder);
        ports(&mut out, &status)?;
        workers(&mut out, &self.workers)?;
        conntrack(&mut out, &self.workers)?;
        out.counter(
            "drop_packets",
            "Packets dropped, by reason",
            DropReason::ALL
                .map(|reason| ([("reason", reason.name().to_owned())], self.dropped(reason))),
        )?;
        services(&mut out, &self.seen().series)?;
        tables(&mut out, &status)?;
        let latency = self.control.latency();
        out.histogram(
            "endpoint_programming_duration",
            "Time from the change of an object, as the object tells it, to the last worker using it",
            &latency.programming,
        )?;
        out.histogram(
            "update_duration",
            "Time from the arrival of a change to the last worker using it",
            &latency.event,
        )?;
        out.histogram(
            "table_acknowledge",
            "Time from handing out tables to the last worker using them",
            &latency.acknowledge,
        )?;
        source(&mut out, &status.source)?;
        let control = self.control.status();
        out.one_gauge(
            "last_change_timestamp_seconds",
            "When objects were last heard of, in seconds since 1970; 0 before",
            unix_seconds(control.last_event),
        )?;
        out.one_gauge(
            "last_publish_timestamp_seconds",
            "When tables were last handed out, in seconds since 1970; 0 before",
            unix_seconds(control.last_publish),
        )?;
        events(&mut out, &self.events)?;
        dns(&mut out, &self.dns)?;
        out.counter(
            "health_answers",
            "Answers of /healthz and /livez, by status code",
            self.asked.rows(),
        )?;
        let pool = |value: fn(&super::PoolStatus) -> u64| {
            status.pools.iter().map(move |pool| ([("pool", pool.name.clone())], value(pool)))
        };
        out.gauge("mempool_size", "Packet buffers", pool(|pool| pool.size))?;
        out.gauge("mempool_free", "Packet buffers nobody uses", pool(|pool| pool.free))
    }
}

fn ports(out: &mut Out<'_>, status: &Status) -> fmt::Result {
    let port = |value: fn(&PortStatus) -> u64| {
        status.ports.iter().map(move |port| ([("port", port.name.clone())], value(port)))
    };
    out.gauge("port_link_up", "1 when the link is up", port(|port| port.link_up.into()))?;
    out.counter("port_rx_packets", "Packets received by workers", port(|port| port.rx_packets))?;
    out.counter("port_rx_bytes", "Bytes received by workers", port(|port| port.rx_bytes))?;
    out.counter("port_tx_packets", "Packets sent by workers", port(|port| port.tx_packets))?;
    out.counter("port_tx_bytes", "Bytes sent by workers", port(|port| port.tx_bytes))?;
    out.counter(
        "port_rx_missed",
        "Packets the device dropped because workers were too slow",
        port(|port| port.missed),
    )?;
    out.counter(
        "port_rx_nombuf",
        "Packets the device dropped because no packet buffer was free",
        port(|port| port.no_buffer),
    )?;
    out.counter("port_rx_errors", "Packets received with an error", port(|port| port.rx_errors))?;
    out.counter("port_tx_errors", "Packets the device failed to send", port(|port| port.tx_errors))
}

fn workers(out: &mut Out<'_>, workers: &[WorkerFacts]) -> fmt::Result {
    let each = |value: fn(&WorkerFacts) -> u64| per_worker(workers, value);
    out.counter("worker_polls", "Polls of all ports", each(|w| w.counters.work.polls.get()))?;
    out.counter(
        "worker_bursts",
        "Polls that found packets",
        each(|w| w.counters.work.busy_polls.get()),
    )?;
    let cycles = workers.iter().enumerate().flat_map(|(id, worker)| {
        let work = &worker.counters.work;
        let busy = work.busy_cycles.get();
        let states = [("busy", busy), ("idle", work.cycles.get().saturating_sub(busy))];
        states.map(|(state, cycles)| (labels(id, worker, "state", state), cycles))
    });
    out.counter("worker_cycles", "CPU cycles in polls that found packets, and in others", cycles)?;
    let stages = workers.iter().enumerate().flat_map(|(id, worker)| {
        let cycles = worker.counters.stages.cycles.iter().zip(Stage::ALL);
        cycles.map(move |(cycles, stage)| (labels(id, worker, "stage", stage.name()), cycles.get()))
    });
    out.counter("worker_stage_cycles", "CPU cycles by stage, of a sample of polls", stages)?;
    out.counter(
        "worker_stage_packets",
        "Packets handled in the sample of polls whose stages are timed",
        each(|w| w.counters.stages.frames.get()),
    )?;
    let outcomes = workers.iter().enumerate().flat_map(|(id, worker)| {
        let work = &worker.counters.work;
        let outcomes = [
            ("forwarded", &work.forwarded),
            ("answered", &work.answered),
            ("handed_over", &work.handed_over),
            ("punted", &work.punted),
        ];
        outcomes.map(|(outcome, packets)| (labels(id, worker, "outcome", outcome), packets.get()))
    });
    out.counter("worker_packets", "Packets that were not dropped, by outcome", outcomes)?;
    out.counter(
        "worker_handed_in_packets",
        "Packets from other workers",
        each(|w| w.counters.work.handed_in.get()),
    )?;
    out.counter(
        "worker_injected_packets",
        "Packets from the kernel",
        each(|w| w.counters.work.injected.get()),
    )?;
    out.gauge(
        "worker_parked_packets",
        "Packets that wait for a next hop",
        each(|w| w.counters.work.parked.get()),
    )?;
    out.gauge(
        "worker_held_packets",
        "Later fragments that wait for the first one of their packet",
        each(|w| w.counters.work.held.get()),
    )
}

fn conntrack(out: &mut Out<'_>, workers: &[WorkerFacts]) -> fmt::Result {
    let each = |value: fn(&WorkerFacts) -> u64| per_worker(workers, value);
    out.gauge("conntrack_entries", "Connections", each(|w| w.counters.conntrack.entries.get()))?;
    out.gauge(
        "conntrack_capacity",
        "Connections there is room for",
        each(|w| w.counters.conntrack.capacity.get()),
    )?;
    out.gauge(
        "conntrack_half_open",
        "Connections that are half open or unanswered",
        each(|w| w.counters.conntrack.half_open.get()),
    )?;
    out.counter(
        "conntrack_created",
        "Connections made",
        each(|w| w.counters.conntrack.created.get()),
    )?;
    out.counter(
        "conntrack_expired",
        "Connections ended by time",
        each(|w| w.counters.conntrack.expired.get()),
    )?;
    let evictions = workers.iter().enumerate().flat_map(|(id, worker)| {
        let table = &worker.counters.conntrack;
        let classes = [
            ("half_open", table.evicted_half_open.get()),
            ("closing", table.evicted_closing.get()),
            ("answered", table.evicted_answered.get()),
        ];
        classes.map(|(class, evicted)| (labels(id, worker, "class", class), evicted))
    });
    out.counter("conntrack_evictions", "Connections removed to make room", evictions)?;
    out.counter(
        "conntrack_reclassified",
        "UDP flows moved away from a backend that no longer serves",
        each(|w| w.counters.conntrack.reclassified.get()),
    )?;
    out.counter(
        "conntrack_one_way",
        "Connections of clients whose address was kept, on which nothing came back",
        each(|w| w.counters.conntrack.one_way.get()),
    )
}

fn services(out: &mut Out<'_>, series: &Series) -> fmt::Result {
    let each = |count: Count| {
        let rows = series.rows().filter(move |(_, counts)| counts[count as usize] > 0);
        rows.map(move |([namespace, service], counts)| {
            ([("namespace", namespace), ("service", service)], counts[count as usize])
        })
    };
    out.counter(
        "service_connections",
        "Connections opened to a Service",
        each(Count::Connections),
    )?;
    let refused = REFUSALS.iter().flat_map(|(count, reason)| {
        each(*count).map(move |([namespace, service], packets)| {
            ([namespace, service, ("reason", (*reason).to_owned())], packets)
        })
    });
    out.counter(
        "service_refused_packets",
        "First packets that a Service's endpoints and policies turned away, by reason",
        refused,
    )?;
    out.counter(
        "service_one_way_connections",
        "Connections to a Service of clients whose address was kept, on which nothing came back",
        each(Count::OneWay),
    )
}

fn tables(out: &mut Out<'_>, status: &Status) -> fmt::Result {
    let tables = &status.tables;
    out.one_gauge(
        "table_generation",
        "Generation of the tables handed out last",
        tables.generation,
    )?;
    out.one_gauge(
        "table_acknowledged_generation",
        "Generation that every worker holds or has passed",
        tables.acknowledged,
    )?;
    // Workers start with the first generation; every later one was handed out.
    let publishes = tables.generation.saturating_sub(1);
    out.one_counter("table_publishes", "Times tables were handed out", publishes)?;
    let count = |n: usize| n as u64;
    out.one_gauge(
        "table_retired",
        "Older tables that some worker still holds",
        count(tables.retired),
    )?;
    out.one_gauge("services", "Services in the tables", count(tables.services))?;
    out.one_gauge("service_rows", "Ports of Services, times families", count(tables.rows))?;
    out.one_gauge("endpoints", "Endpoints of all ports of Services", count(tables.endpoints))?;
    let no_local = [("internal", tables.no_local_internal), ("external", tables.no_local_external)];
    out.gauge(
        "service_rows_without_local_endpoints",
        "Rows that drop packets, for by this policy only local endpoints count and all are elsewhere",
        no_local.map(|(policy, rows)| ([("traffic_policy", policy.to_owned())], count(rows))),
    )
}

fn source(out: &mut Out<'_>, source: &super::SourceStatus) -> fmt::Result {
    let connected = u64::from(source.state == "connected");
    out.one_gauge("source_connected", "1 when changes of objects arrive", connected)?;
    out.one_gauge(
        "kube_stale_seconds",
        "How long nothing was heard of objects; 0 when connected",
        source.stale_seconds,
    )?;
    let problems = source.problem_count as u64;
    out.one_gauge(
        "source_problems",
        "Things that are wrong with objects, or worth knowing",
        problems,
    )
}

fn unix_seconds(time: Option<SystemTime>) -> u64 {
    let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since_1970.map_or(0, |since| since.as_secs())
}

fn events(out: &mut Out<'_>, events: &events::Counters) -> fmt::Result {
    out.one_counter("events_sent", "Events posted on Services and EndpointSlices", events.sent())?;
    let dropped =
        events.dropped().map(|(cause, count)| ([("cause", cause.label().to_owned())], count));
    out.counter("events_dropped", "Events that were not posted, by cause", dropped)
}

fn dns(out: &mut Out<'_>, dns: &dns::Counters) -> fmt::Result {
    let queries = dns.queries().map(|(rcode, count)| ([("rcode", rcode.to_owned())], count));
    out.counter("dns_queries", "DNS questions answered, by response code", queries)?;
    out.one_counter(
        "dns_forwarded_queries",
        "DNS questions answered with the help of other servers or their answers in the cache",
        dns.forwarded(),
    )?;
    out.one_counter(
        "dns_dropped_queries",
        "DNS questions dropped because too many were being answered",
        dns.dropped(),
    )
}

type WorkerLabels<const N: usize> = [(&'static str, String); N];

fn per_worker(
    workers: &[WorkerFacts],
    value: fn(&WorkerFacts) -> u64,
) -> impl Iterator<Item = (WorkerLabels<2>, u64)> {
    workers.iter().enumerate().map(move |(id, worker)| {
        let labels = [("worker", id.to_string()), ("core", worker.core.to_string())];
        (labels, value(worker))
    })
}

fn labels(id: usize, worker: &WorkerFacts, key: &'static str, value: &str) -> WorkerLabels<3> {
    [("worker", id.to_string()), ("core", worker.core.to_string()), (key, value.to_owned())]
}

/// Writes metric families. The encoder appends `_total` and units.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (WorkerLabels<N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            count(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    fn gauge<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (WorkerLabels<N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn one_counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        count(self.0.encode_descriptor(name, help, None, MetricType::Counter)?, value)
    }

    fn one_gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        histogram.encode(self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?)
    }
}

fn count(mut encoder: MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
}
