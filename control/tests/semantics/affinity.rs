//! ClientIP affinity: what a first packet can show of it. All the rest is about the packets that follow.

use crate::world::{PORT, TWO, world};

#[test]
fn aff_1_aff_10_any_affinity_leaves_the_first_choice_free() {
    for spec in [
        "sessionAffinity: None",
        "sessionAffinity: ClientIP",
        "sessionAffinity: ClientIP, sessionAffinityConfig: null",
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: null}",
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: null}}",
        "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}",
    ] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, {spec}, {PORT}"))
            .slice("web", TWO)
            .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    }
}
