use serde_json::{Value, json};

use crate::testing::{create, mistakes, update, with};

fn service(spec: Value) -> Value {
    let mut service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}});
    service["spec"] = spec;
    service
}

fn web() -> Value {
    service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}))
}

#[test]
fn a_service_is_stored_with_upstreams_defaults() {
    let created = create("", "Service", web()).unwrap();
    assert_eq!(
        created["spec"],
        json!({
            "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "selector": {"app": "web"}, "sessionAffinity": "None", "type": "ClusterIP",
        })
    );
    assert_eq!(created["status"], json!({"loadBalancer": {}}));
    let balanced = create(
        "",
        "Service",
        service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]})),
    )
    .unwrap();
    for (pointer, expected) in [
        ("/spec/allocateLoadBalancerNodePorts", json!(true)),
        ("/spec/externalTrafficPolicy", json!("Cluster")),
        ("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", json!(10800)),
    ] {
        assert_eq!(balanced.pointer(pointer), Some(&expected), "{pointer}");
    }
    let fixed = create("", "Service", with(&web(), "/spec/clusterIP", json!("None"))).unwrap();
    assert_eq!(fixed["spec"]["clusterIPs"], json!(["None"]));
}

#[test]
fn mistakes_in_a_service_are_told_in_upstreams_words() {
    mistakes(
        "",
        "Service",
        &web(),
        &[
            ("/spec/ports", json!([]), &["spec.ports: Required value"]),
            (
                "/spec/ports",
                json!([{"port": 80}, {"port": 80}]),
                &[
                    "spec.ports[0].name: Required value",
                    "spec.ports[1].name: Required value",
                    "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
                ],
            ),
            (
                "/spec/ports/0/port",
                json!(0),
                &[
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                "/spec/ports/0/nodePort",
                json!(30000),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            (
                "/spec/type",
                json!("Loadbalancer"),
                &[
                    "spec.type: Unsupported value: \"Loadbalancer\": supported values: \"ClusterIP\", \
                   \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                "/spec/type",
                json!("ExternalName"),
                &["spec.externalName: Required value"],
            ),
            (
                "/spec/sessionAffinity",
                json!("Cookie"),
                &["spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\""],
            ),
            (
                "/spec/clusterIPs",
                json!(["10.0.0.1"]),
                &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified"],
            ),
            (
                "/spec/clusterIP",
                json!("ten"),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"ten\": must be a valid IP address, (e.g. 10.9.8.7 or \
                   2001:db8::ffff)",
                ],
            ),
            (
                "/spec/ipFamilies",
                json!(["IPv4", "IPv4"]),
                &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
            ),
            (
                "/spec/externalIPs",
                json!(["127.0.0.1"]),
                &[
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
                   ::1/128)",
                ],
            ),
            (
                "/spec/externalTrafficPolicy",
                json!("Local"),
                &[
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible \
                   services",
                ],
            ),
            (
                "/spec/loadBalancerSourceRanges",
                json!(["10.0.0.0/33"]),
                &[
                    "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                    "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, \
                     (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                "/spec/trafficDistribution",
                json!("Near"),
                &[
                    "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \
                   \"PreferSameNode\", \"PreferSameZone\"",
                ],
            ),
        ],
    );
}

/// A stored service of type `NodePort` that the registry has given what it needs.
fn allocated() -> Value {
    let created = create(
        "",
        "Service",
        service(json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]})),
    )
    .unwrap();
    let mut stored = created;
    stored["spec"]["clusterIP"] = "10.0.0.5".into();
    stored["spec"]["clusterIPs"] = json!(["10.0.0.5"]);
    stored["spec"]["ipFamilies"] = json!(["IPv4"]);
    stored["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    stored["spec"]["ports"][0]["nodePort"] = 30080.into();
    stored
}

#[test]
fn what_was_given_out_is_kept_when_a_client_leaves_it_out() {
    let old = allocated();
    let manifest = service(json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}));
    let new = update("", "Service", manifest, &old, "").unwrap();
    assert_eq!(new["spec"]["clusterIP"], "10.0.0.5");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.5"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
}

#[test]
fn a_change_of_type_takes_with_it_what_only_the_former_type_had() {
    let old = allocated();
    let new = update("", "Service", with(&old, "/spec/type", json!("ClusterIP")), &old, "").unwrap();
    assert_eq!(new["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(new["spec"].get("externalTrafficPolicy"), None);
    let named = with(
        &with(&old, "/spec/type", json!("ExternalName")),
        "/spec/externalName",
        json!("a.b"),
    );
    let named = with(&named, "/spec/externalTrafficPolicy", Value::Null);
    let new = update("", "Service", named, &old, "").unwrap();
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(new["spec"].get(field), None, "{field}");
    }
}

#[test]
fn the_address_of_a_service_stays() {
    let old = allocated();
    for (pointer, value, expected) in [
        (
            "/spec/clusterIP",
            json!("10.0.0.6"),
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.6\"]: may not change once set",
        ),
        (
            "/spec/ipFamilies",
            json!(["IPv6"]),
            "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
        ),
    ] {
        let told = update("", "Service", with(&old, pointer, value), &old, "").unwrap_err();
        assert_eq!(told[0], expected);
    }
}

#[test]
fn only_a_load_balancer_has_addresses_of_one() {
    let old = allocated();
    let ingress = with(&old, "/status/loadBalancer", json!({"ingress": [{"ip": "1.2.3.4"}]}));
    assert_eq!(
        update("", "Service", ingress, &old, "status").unwrap_err(),
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
    );
    let old = with(&old, "/spec/type", json!("LoadBalancer"));
    let ingress = with(&old, "/status/loadBalancer", json!({"ingress": [{"ip": "1.2.3.4"}]}));
    let new = update("", "Service", ingress, &old, "status").unwrap();
    assert_eq!(new["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
}

#[test]
fn going_back_to_one_family_takes_the_second_address_with_it() {
    let mut old = allocated();
    old["spec"]["clusterIPs"] = json!(["10.0.0.5", "fd00::5"]);
    old["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
    old["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    let new = update(
        "",
        "Service",
        with(&old, "/spec/ipFamilyPolicy", json!("SingleStack")),
        &old,
        "",
    )
    .unwrap();
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.5"]));
    assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4"]));
}
