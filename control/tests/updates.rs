//! When changes are published: at once, but for what may be half of a move (EPS-8).

mod support;

use std::time::Duration;

use control::control::{Handle, Update};
use control::object::{Kind, Object, ObjectKey, ObjectName, Service, Slice};
use control::source::{Change, Event};
use support::{rows, settings, start};
use tokio::task::LocalSet;
use tokio::time::{self, Instant};

/// Longer than anything waits for an endpoint on its way.
const LONG: Duration = Duration::from_millis(100);

fn service(name: &str) -> Event {
    let yaml = format!(
        "{{metadata: {{name: {name}}}, spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}]}}}}"
    );
    let service = serde_saphyr::from_str(&yaml).expect("readable");
    let service = Service::parse(&service).expect("named").object;
    Event::Apply(Change::of(Object::Service(service)))
}

/// A slice of Service `a`; an endpoint with a `!` is not ready.
fn slice(name: &str, endpoints: &[&str]) -> Event {
    let endpoint = |text: &&str| {
        let up = !text.ends_with('!');
        let address = text.trim_end_matches('!');
        format!("{{addresses: [10.0.0.{address}], conditions: {{ready: {up}, serving: {up}}}}}")
    };
    let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
    let yaml = format!(
        "{{metadata: {{name: {name}, labels: {{kubernetes.io/service-name: a}}}}, addressType: IPv4,
           endpoints: [{}], ports: [{{name: http, port: 8080}}]}}",
        endpoints.join(", ")
    );
    let slice = serde_saphyr::from_str(&yaml).expect("readable");
    Event::Apply(Change::of(Object::Slice(Slice::parse(&slice).expect("named").object)))
}

fn gone(kind: Kind, name: &str) -> Event {
    Event::Delete(ObjectKey { kind, name: ObjectName::new("default", name) })
}

/// A gateway that serves Service `a` from these slices. Time passes only where a test lets it.
async fn serving(slices: &[(&str, &[&str])], test: impl AsyncFnOnce(&Gateway)) {
    let (handle, tasks): (Handle, LocalSet) = start(settings("{}"));
    let gateway = Gateway { handle };
    let all = async {
        let lists = [Kind::Service, Kind::EndpointSlice].map(|kind| Event::Reset {
            kind,
            objects: Vec::new(),
            unreadable: Vec::new(),
        });
        gateway.hears(lists).await;
        gateway.hears([service("a")]).await;
        gateway.hears(slices.iter().map(|(name, endpoints)| slice(name, endpoints))).await;
        test(&gateway).await;
    };
    tasks.run_until(all).await;
}

struct Gateway {
    handle: Handle,
}

impl Gateway {
    /// Sends events in one go, and returns the tables' generation when the loop has dealt with them.
    async fn hears(&self, events: impl IntoIterator<Item = Event>) -> u64 {
        for event in events {
            self.handle.send(Update::Object(event)).await.expect("it runs");
        }
        self.generation().await
    }

    async fn generation(&self) -> u64 {
        self.handle.inspect(|view| view.publisher.generation()).await.expect("it runs");
        // The question is answered before what came with it is published.
        self.handle.inspect(|view| view.publisher.generation()).await.expect("it runs")
    }

    /// The last bytes of the endpoints' addresses.
    async fn endpoints(&self) -> String {
        let rows = self.handle.inspect(|view| rows(view.assembly)).await.expect("it runs");
        let [row] = &rows[..] else { panic!("{rows:?}") };
        let (_, endpoints) = row.split_once(" -> ").expect("a row");
        let last = |text: &str| text.trim_start_matches("10.0.0.").trim_end_matches(":8080").into();
        endpoints.split(' ').map(last).collect::<Vec<String>>().join(" ")
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_published_at_once() {
    serving(&[("x", &["1", "2"])], async |gateway| {
        let start = Instant::now();
        let mut generation = gateway.generation().await;
        for (event, expected) in [
            (slice("x", &["1", "2", "3"]), "1 2 3"),
            (slice("x", &["1", "3"]), "1 3"),
            (slice("x", &["1", "4"]), "1 4"),
            (slice("x", &["1", "4!"]), "1"),
            (slice("y", &["5"]), "1 5"),
            // With two slices, an endpoint that is added or has already ended is still no half of a move.
            (slice("x", &["1", "4!", "6"]), "1 5 6"),
            (slice("x", &["1", "6"]), "1 5 6"),
        ] {
            let former = std::mem::replace(&mut generation, gateway.hears([event]).await);
            assert_eq!(gateway.endpoints().await, expected);
            assert!(generation - former <= 1);
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing waits");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn eps_8_a_move_in_two_halves_shows_no_gap() {
    let slices: &[(&str, &[&str])] = &[("x", &["1", "2"]), ("y", &["3"])];
    serving(slices, async |gateway| {
        let generation = gateway.generation().await;
        assert_eq!(gateway.hears([slice("x", &["1"])]).await, generation);
        assert_eq!(gateway.endpoints().await, "1 2 3");
        time::sleep(Duration::from_millis(5)).await;
        assert_eq!(gateway.hears([slice("y", &["2", "3"])]).await, generation, "nothing differs");
        assert_eq!(gateway.endpoints().await, "1 2 3");
        time::sleep(LONG).await;
        assert_eq!(gateway.generation().await, generation);
        // The other way round it is in both for a moment.
        gateway.hears([slice("x", &["1", "2"])]).await;
        assert_eq!(gateway.hears([slice("y", &["3"])]).await, generation);
        time::sleep(LONG).await;
        assert_eq!(gateway.generation().await, generation);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn eps_8_a_slice_that_is_replaced_shows_no_gap() {
    serving(&[("x", &["1", "2"])], async |gateway| {
        let generation = gateway.generation().await;
        gateway.hears([gone(Kind::EndpointSlice, "x")]).await;
        time::sleep(Duration::from_millis(5)).await;
        gateway.hears([slice("y", &["1", "2"])]).await;
        time::sleep(LONG).await;
        assert_eq!(gateway.generation().await, generation);
        assert_eq!(gateway.endpoints().await, "1 2");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn eps_8_what_moved_may_be_another_when_it_arrives() {
    let slices: &[(&str, &[&str])] = &[("x", &["1", "2"]), ("y", &["3"])];
    serving(slices, async |gateway| {
        gateway.hears([slice("x", &["1"])]).await;
        let start = Instant::now();
        gateway.hears([slice("y", &["2!", "3"])]).await;
        assert_eq!(gateway.endpoints().await, "1 3", "it is there, and not ready");
        assert_eq!(start.elapsed(), Duration::ZERO);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn eps_8_what_does_not_turn_up_goes_soon() {
    let slices: &[(&str, &[&str])] = &[("x", &["1", "2"]), ("y", &["3"])];
    serving(slices, async |gateway| {
        let start = Instant::now();
        gateway.hears([slice("x", &["1"])]).await;
        // Other news of the Service neither end the wait nor make it longer.
        for fresh in 4..8 {
            time::sleep(Duration::from_millis(4)).await;
            assert_eq!(gateway.endpoints().await, "1 2 3");
            gateway.hears([slice("y", &["3", &fresh.to_string()])]).await;
        }
        while gateway.endpoints().await != "1 3 7" {
            time::sleep(Duration::from_millis(1)).await;
        }
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_goes_does_not_wait() {
    serving(&[("x", &["1"]), ("y", &["2"])], async |gateway| {
        let start = Instant::now();
        gateway.hears([gone(Kind::EndpointSlice, "x")]).await;
        gateway.hears([gone(Kind::Service, "a")]).await;
        let rows = gateway.handle.inspect(|view| rows(view.assembly)).await.expect("it runs");
        assert_eq!(rows, [""; 0]);
        assert_eq!(start.elapsed(), Duration::ZERO);
    })
    .await;
}

/// SYN-2.
#[tokio::test(start_paused = true)]
async fn what_is_sent_together_is_published_together() {
    serving(&[("x", &["1"])], async |gateway| {
        let generation = gateway.generation().await;
        let events = (2..50).map(|n| slice("x", &["1", &n.to_string()])).collect();
        gateway.handle.send(Update::Objects(events)).await.expect("it runs");
        assert_eq!(gateway.generation().await, generation + 1);
        assert_eq!(gateway.endpoints().await, "1 49");
        // And so is what waits.
        let generation = gateway.generation().await;
        let events = (60..99).map(|n| slice("x", &["1", &n.to_string()]));
        assert_eq!(gateway.hears(events).await, generation + 1);
    })
    .await;
}
