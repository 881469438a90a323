//! ServiceCIDR: ranges that cluster IPs come from.
//!
//! One that is being deleted counts as long as it exists: until then Services have addresses in it.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as api;

use super::problem::Report;
use super::{Kind, ObjectName, Parsed, Problem, address, named};

/// A ServiceCIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// Its name, in no namespace.
    pub name: ObjectName,
    /// The ranges, at most one of a family.
    pub ranges: Vec<IpNet>,
}

impl ServiceCidr {
    /// Reads an object. Only one without a name is an error; a range that can't be read is left out.
    pub fn parse(object: &api::ServiceCIDR) -> Result<Parsed<Self>, Box<Problem>> {
        let key = named(Kind::ServiceCidr, &object.metadata)?;
        let mut report = Report::new(key.clone());
        let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).enumerate();
        let range = |(i, text): (usize, &String)| {
            report.ok(|| format!("spec.cidrs[{i}]"), address::parse_net(text))
        };
        let ranges = texts.filter_map(range).collect();
        let parsed = Self { name: key.name, ranges };
        Ok(Parsed { object: parsed, problems: report.into_problems() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rej_10_ranges_count_while_the_object_exists() {
        let object = "{metadata: {name: extra, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {cidrs: [10.97.0.0/24, there, 'fd00:97::/112']}}";
        let object: api::ServiceCIDR = serde_saphyr::from_str(object).expect("readable");
        let Parsed { object, problems } = ServiceCidr::parse(&object).expect("named");
        let ranges: Vec<String> = object.ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.97.0.0/24", "fd00:97::/112"]);
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 1);
        assert!(texts[0].starts_with("ServiceCIDR extra: spec.cidrs[1]: "), "{texts:?}");
        let empty = ServiceCidr::parse(&api::ServiceCIDR {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some("e".into()),
                ..Default::default()
            },
            ..Default::default()
        });
        assert_eq!(empty.expect("named").object.ranges, []);
    }
}
