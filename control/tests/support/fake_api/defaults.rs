//! What the API server writes into objects that clients leave open, as far as a gateway looks at them.

use serde_json::{Value, json};

/// Completes an object that a client writes.
pub(super) fn fill_in(object: &mut Value) {
    match (object["kind"].as_str(), object["apiVersion"].as_str()) {
        (Some("Service"), _) => service(object),
        (Some("EndpointSlice"), _) => slice(object),
        (Some("Event"), Some("events.k8s.io/v1")) => {
            default(object, "deprecatedSource", json!({}));
            for time in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
                default(object, time, Value::Null);
            }
        }
        _ => {}
    }
}

fn service(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "type", "ClusterIP".into());
    default(spec, "sessionAffinity", "None".into());
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let has_node_ports = matches!(&*kind, "NodePort" | "LoadBalancer");
    for port in each(spec, "/ports") {
        default(port, "protocol", "TCP".into());
        let number = port["port"].clone();
        default(port, "targetPort", number);
        if !has_node_ports {
            remove(port, "nodePort");
        }
    }
    if spec["sessionAffinity"] == "ClientIP" {
        default(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
    } else {
        remove(spec, "sessionAffinityConfig");
    }
    let addresses = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
    if kind == "ExternalName" {
        for field in addresses.into_iter().chain(["internalTrafficPolicy"]) {
            remove(spec, field);
        }
    } else {
        if let Some(ip) = spec.get("clusterIP").and_then(Value::as_str).map(ToOwned::to_owned) {
            let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
            default(spec, "clusterIPs", json!([ip]));
            default(spec, "ipFamilies", json!([family]));
        }
        default(spec, "ipFamilyPolicy", "SingleStack".into());
        default(spec, "internalTrafficPolicy", "Cluster".into());
    }
    let reached_from_outside = has_node_ports || spec.get("externalIPs").is_some();
    set(spec, "externalTrafficPolicy", "Cluster".into(), reached_from_outside);
    set(spec, "allocateLoadBalancerNodePorts", true.into(), kind == "LoadBalancer");
    default(object, "status", json!({}));
    let status = &mut object["status"];
    if kind != "LoadBalancer" {
        remove(status, "loadBalancer");
    }
    default(status, "loadBalancer", json!({}));
    for ingress in each(status, "/loadBalancer/ingress") {
        if ingress.get("ip").is_some() {
            default(ingress, "ipMode", "VIP".into());
        }
    }
}

fn slice(object: &mut Value) {
    for field in ["endpoints", "ports"] {
        if object.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty) {
            object[field] = Value::Null;
        }
    }
    for endpoint in each(object, "/endpoints") {
        default(endpoint, "conditions", json!({}));
    }
    for port in each(object, "/ports") {
        default(port, "name", "".into());
        default(port, "protocol", "TCP".into());
    }
}

fn each<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A field that there is under a condition only.
fn set(object: &mut Value, field: &str, value: Value, there: bool) {
    if there {
        default(object, field, value);
    } else {
        remove(object, field);
    }
}

fn default(object: &mut Value, field: &str, value: Value) {
    if object.get(field).is_none() {
        object[field] = value;
    }
}

fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().map(|object| object.shift_remove(field));
}
