//! What is not the fake's to answer: each with its reason. What such a write did is written to the fake as recorded.

use super::file::{Line, Transcript};

/// Resources that tests only need to be there.
const RESOURCES: [(&str, &str); 3] = [
    ("endpoints", "gateways read the slices that a controller makes of them"),
    ("pods", "a scheduler, a kubelet and many defaults stand behind them, and gateways write none"),
    ("deployments", "the same"),
];

/// File, exchange, reason.
const EXCHANGES: [(&str, u32, &str); 40] = [
    ("01", 1, BUILD),
    ("02", 9, NOT_SENT),
    ("06", 7, ADDRESSES),
    ("06", 10, ADDRESSES),
    ("06", 11, ADDRESSES),
    ("08", 7, "the event shows a field that the answer does not, which matters to nobody"),
    ("08", 9, ADDRESSES),
    ("08", 10, CHECKS),
    ("09", 5, CHECKS),
    ("09", 6, CHECKS),
    ("10", 7, CHECKS),
    ("10", 10, CHECKS),
    ("13", 10, CHECKS),
    ("13", 11, CHECKS),
    ("13", 14, CHECKS),
    ("14", 10, CHECKS),
    ("14", 12, CHECKS),
    ("14", 13, CHECKS),
    ("14", 14, CHECKS),
    ("17", 3, "a slice was written that the file does not show"),
    ("20", 4, DEFAULTS),
    ("21", 3, DEFAULTS),
    ("22", 4, CHECKS),
    ("22", 5, CHECKS),
    ("22", 6, DEFAULTS),
    ("23", 7, PATCHES),
    ("23", 8, PATCHES),
    ("23", 11, CHECKS),
    ("23", 17, CHECKS),
    ("24", 4, NOT_SENT),
    ("24", 10, CHECKS),
    ("27", 5, DEFAULTS),
    ("27", 7, NAMESPACES),
    ("27", 8, NAMESPACES),
    ("29", 7, CHECKS),
    ("30", 2, METADATA_ONLY),
    ("30", 3, METADATA_ONLY),
    ("30", 5, METADATA_ONLY),
    ("30", 6, "nobody asks what resources there are"),
    ("33", 1, BUILD),
];
const NOT_SENT: &str =
    "the body in the file is not what was sent: it shows a later change, the answer does not";
const PATCHES: &str = "gateways send merge patches only";
const BUILD: &str = "facts about the build of a server";
const CHECKS: &str =
    "it checks no fields: a gateway that writes nonsense is found by its own tests";
const DEFAULTS: &str = "it completes only what gateways write and read every day";
const NAMESPACES: &str = "a controller empties namespaces that go";
const METADATA_ONLY: &str = "nobody asks for another form of objects";
const ADDRESSES: &str = "it gives out no addresses";

pub fn is_exempt(file: &Transcript, request: &Line) -> bool {
    reason(file, request).is_some()
}

fn reason(file: &Transcript, request: &Line) -> Option<&'static str> {
    let parts: Vec<&str> = request.place().split('/').collect();
    let resource = RESOURCES.iter().find(|(plural, _)| request.changes() && parts.contains(plural));
    let exchange = EXCHANGES
        .iter()
        .find(|(name, id, _)| file.name.starts_with(name) && *id == request.id)
        .map(|(_, _, reason)| *reason);
    resource.map(|(_, reason)| *reason).or(exchange)
}

#[test]
fn every_exemption_is_of_an_exchange_there_is() {
    for (name, id, reason) in EXCHANGES {
        let file = Transcript::of(name);
        assert!(file.requests().any(|request| request.id == id), "{name} {id}: {reason}");
    }
}
