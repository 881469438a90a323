//! Whether the API server lets us do what we need: asked once at the start, so that a missing right is named by verb and
//! resource instead of being found in a refusal.
//!
//! Whoever may talk to an API server may ask it that. One that answers otherwise is taken to allow everything: what it then
//! refuses is reported where it is needed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::time;
use tracing::{error, info, warn};

use super::follow::{ANSWER_TIMEOUT, with_causes};
use crate::backoff::Backoff;

/// An API server that refuses to say so many times will not say.
const ANSWERS: u32 = 4;

/// What rights are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// Services and their endpoints: what a gateway is for.
    Services,
    /// The Node of the configured name.
    Node,
    /// Ranges of cluster IPs.
    ServiceCidrs,
    /// Telling owners of objects.
    Events,
}

/// A resource with the verbs that are used.
struct Need {
    feature: Feature,
    group: &'static str,
    resource: &'static str,
    verbs: [&'static str; 2],
}

/// All rights that are used; `deploy/kubernetes/rbac.yaml` grants these and no others.
const NEEDS: [Need; 5] = [
    need(Feature::Services, "", "services", ["list", "watch"]),
    need(Feature::Services, "discovery.k8s.io", "endpointslices", ["list", "watch"]),
    need(Feature::Node, "", "nodes", ["list", "watch"]),
    need(Feature::ServiceCidrs, "networking.k8s.io", "servicecidrs", ["list", "watch"]),
    need(Feature::Events, "events.k8s.io", "events", ["create", "patch"]),
];

const fn need(
    feature: Feature,
    group: &'static str,
    resource: &'static str,
    verbs: [&'static str; 2],
) -> Need {
    Need { feature, group, resource, verbs }
}

/// Features that lack a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Denied(BTreeSet<Feature>);

impl Denied {
    pub(super) fn allows(&self, feature: Feature) -> bool {
        !self.0.contains(&feature)
    }
}

impl Feature {
    /// What a missing right leads to.
    fn loss(self) -> &'static str {
        match self {
            Self::Services => "no Service can be served until it may (it keeps trying)",
            Self::Node => "labels and addresses of the node are those of the configuration alone",
            Self::ServiceCidrs => "ranges of cluster IPs are those of the configuration alone",
            Self::Events => "no Events are posted",
        }
    }
}

/// Asks for all rights of these features, as soon as the API server answers, and says which are missing.
pub(super) async fn check(client: &Client, features: &[Feature]) -> Denied {
    let mut denied = Denied::default();
    for need in NEEDS.iter().filter(|need| features.contains(&need.feature)) {
        let mut missing = BTreeMap::new();
        for verb in need.verbs {
            match ask(client, need, verb).await {
                Ok(None) => {}
                Ok(Some(why)) => drop(missing.insert(verb, why)),
                Err(error) => {
                    info!(error, "the API server does not say what this account may do");
                    return Denied::default();
                }
            }
        }
        if missing.is_empty() {
            continue;
        }
        let why = missing.values().find(|why| !why.is_empty()).map_or("", String::as_str);
        let verbs: Vec<&str> = missing.keys().copied().collect();
        let complaint = complaint(need, &verbs);
        if need.feature == Feature::Services {
            error!(why, "{complaint}");
        } else {
            warn!(why, "{complaint}, then restart vipgate");
        }
        denied.0.insert(need.feature);
    }
    denied
}

fn complaint(need: &Need, verbs: &[&str]) -> String {
    let Need { feature, group, resource, .. } = need;
    let verbs = verbs.join(" and ");
    let group = if group.is_empty() { "core" } else { group };
    let loss = feature.loss();
    format!(
        "this account may not {verbs} {resource} in API group {group}: {loss}; apply deploy/kubernetes/rbac.yaml and bind its ClusterRole to this account"
    )
}

/// Why a verb is not allowed, if it is not. Errors when the API server gives no answer to that; waits for one that can't be
/// reached.
async fn ask(client: &Client, need: &Need, verb: &str) -> Result<Option<String>, String> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(need.group.to_owned()),
                resource: Some(need.resource.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let params = PostParams::default();
    let mut backoff = Backoff::new();
    let mut answers = 0;
    loop {
        match time::timeout(ANSWER_TIMEOUT, reviews.create(&params, &review)).await {
            Ok(Ok(answer)) => {
                let status = answer.status.unwrap_or_default();
                let why = || status.reason.or(status.evaluation_error).unwrap_or_default();
                return Ok((!status.allowed).then(why));
            }
            Ok(Err(Error::Api(status))) => {
                answers += 1;
                // 429, 503 and their like may pass.
                if answers == ANSWERS || (400..500).contains(&status.code) && status.code != 429 {
                    return Err(format!("{} {}: {}", status.code, status.reason, status.message));
                }
                time::sleep(backoff.pause()).await;
            }
            Ok(Err(error @ (Error::SerdeError(_) | Error::BuildRequest(_)))) => {
                return Err(with_causes(&error));
            }
            // Not there, or not yet able: whoever follows Services reports that.
            _ => time::sleep(backoff.pause()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_verb_resource_group_loss_and_remedy() {
        let texts: Vec<String> = NEEDS.iter().map(|need| complaint(need, &need.verbs)).collect();
        assert_eq!(
            texts[0],
            "this account may not list and watch services in API group core: no Service can be served until it may (it keeps trying); \
             apply deploy/kubernetes/rbac.yaml and bind its ClusterRole to this account"
        );
        let begin =
            "this account may not create and patch events in API group events.k8s.io: no Events";
        assert!(texts[4].starts_with(begin), "{}", texts[4]);
    }
}
