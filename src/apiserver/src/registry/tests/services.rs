use std::collections::BTreeSet;

use super::*;
use crate::{
    Reason,
    advertise::Advertised,
    registry::{IpRange, ServiceConfig},
};

async fn world(ranges: &[&str], ports: std::ops::RangeInclusive<u16>) -> World {
    let services = ServiceConfig {
        ranges: ranges.iter().map(|range| range.parse::<IpRange>().unwrap()).collect(),
        node_ports: ports,
    };
    World::with(Config {
        services,
        ..Config::default()
    })
    .await
}

fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// Addresses that are recorded, and node ports.
async fn recorded(world: &World) -> (BTreeSet<String>, BTreeSet<String>) {
    let (addresses, _) = world
        .list("networking.k8s.io/v1/ipaddresses", "", &ListOptions::default())
        .await
        .unwrap();
    let range = bosun_store::KeyRange::prefix("/bosun/nodeports/");
    let ports = world.store.range(range, 0, None).await.unwrap();
    let port = |kv: &bosun_store::KeyValue| String::from_utf8_lossy(&kv.key).rsplit('/').next().unwrap().to_owned();
    (addresses.into_iter().collect(), ports.kvs.iter().map(port).collect())
}

#[tokio::test]
async fn a_service_gets_an_address_and_gives_it_back() {
    let world = world(&["10.9.0.0/24"], 30_000..=30_002).await;
    let created = world
        .create("v1/services", "default", service("a", json!({"type": "NodePort"})))
        .await
        .unwrap();
    let address = created["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(created["spec"]["clusterIPs"], json!([address]));
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    let port = created["spec"]["ports"][0]["nodePort"].to_string();
    assert_eq!(
        recorded(&world).await,
        (BTreeSet::from([address.clone()]), BTreeSet::from([port]))
    );
    let record = world
        .get("networking.k8s.io/v1/ipaddresses", "", &address)
        .await
        .unwrap();
    assert_eq!(
        record["spec"]["parentRef"],
        json!({"group": "", "resource": "services", "namespace": "default", "name": "a"})
    );

    // Another type: the port goes; another: the address too.
    let mut plain = created.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    plain["spec"]["ports"][0].as_object_mut().unwrap().remove("nodePort");
    let plain = world.update("v1/services", plain).await.unwrap();
    assert_eq!(plain["spec"]["clusterIP"], address.as_str());
    assert_eq!(
        recorded(&world).await,
        (BTreeSet::from([address.clone()]), BTreeSet::new())
    );

    world
        .delete("v1/services", "default", "a", &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(recorded(&world).await, (BTreeSet::new(), BTreeSet::new()));
}

#[tokio::test]
async fn what_is_taken_or_out_of_range_is_refused() {
    let world = world(&["10.9.0.0/24"], 30_000..=30_002).await;
    let fixed = json!({"type": "NodePort", "clusterIP": "10.9.0.9", "ports": [{"port": 80, "nodePort": 30_001}]});
    world
        .create("v1/services", "default", service("a", fixed.clone()))
        .await
        .unwrap();
    let table = [
        (
            fixed,
            "spec.clusterIPs: Invalid value: [\"10.9.0.9\"]: failed to allocate IP 10.9.0.9: provided IP is already allocated",
        ),
        (
            json!({"clusterIP": "10.8.0.9"}),
            "spec.clusterIPs: Invalid value: [\"10.8.0.9\"]: failed to allocate IP 10.8.0.9: the provided IP (10.8.0.9) is not in \
             the valid range. The range of valid IPs is 10.9.0.0/24",
        ),
        (
            json!({"clusterIP": "10.9.0.1"}),
            "spec.clusterIPs: Invalid value: [\"10.9.0.1\"]: failed to allocate IP 10.9.0.1: provided IP is already allocated",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_001}]}),
            "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 29_999}]}),
            "spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the valid range. The range of valid ports is \
             30000-30002",
        ),
    ];
    for (spec, message) in table {
        let status = world
            .create("v1/services", "default", service("b", spec))
            .await
            .unwrap_err();
        assert_eq!(status.reason, Reason::Invalid);
        assert_eq!(status.message, format!("Service \"b\" is invalid: {message}"));
    }
    assert_eq!(
        recorded(&world).await,
        (BTreeSet::from(["10.9.0.9".into()]), BTreeSet::from(["30001".into()]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_services_never_get_the_same_and_all_there_is_can_be_given() {
    let world = Arc::new(world(&["10.9.0.0/28"], 30_000..=30_012).await);
    let mut creations = tokio::task::JoinSet::new();
    // 14 addresses, one of them reserved; 13 ports.
    for number in 0..20 {
        let world = world.clone();
        creations.spawn(async move {
            let object = service(&format!("s{number}"), json!({"type": "NodePort"}));
            world.create("v1/services", "default", object).await
        });
    }
    let (given, refused): (Vec<_>, Vec<_>) = creations.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((given.len(), refused.len()), (13, 7));
    for status in refused {
        assert!(status.unwrap_err().message.ends_with("range is full"));
    }
    let (addresses, ports) = recorded(&world).await;
    assert_eq!((addresses.len(), ports.len()), (13, 13));
    let services: BTreeSet<_> = given
        .into_iter()
        .map(|one| one.unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(services, addresses);
}

#[tokio::test]
async fn a_service_of_two_families_has_an_address_of_each() {
    let world = world(&["10.9.0.0/24", "fd00:9::/112"], 30_000..=30_002).await;
    let object = service("a", json!({"ipFamilyPolicy": "PreferDualStack"}));
    let created = world.create("v1/services", "default", object).await.unwrap();
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(created["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
    assert_eq!(recorded(&world).await.0.len(), 2);
    let mut single = created.clone();
    single["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    single["spec"]["ipFamilies"] = json!(["IPv4"]);
    single["spec"]["clusterIPs"] = json!([created["spec"]["clusterIP"]]);
    let single = world.update("v1/services", single).await.unwrap();
    assert_eq!(single["spec"]["clusterIPs"], json!([created["spec"]["clusterIP"]]));
    assert_eq!(recorded(&world).await.0.len(), 1);
    let headless = world
        .create(
            "v1/services",
            "default",
            service("b", json!({"clusterIP": "None", "selector": {"a": "b"}})),
        )
        .await
        .unwrap();
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(recorded(&world).await.0.len(), 1);
}

#[tokio::test]
async fn records_that_another_hand_broke_are_mended() {
    let world = world(&["10.9.0.0/24"], 30_000..=30_002).await;
    world
        .create("v1/services", "default", service("a", json!({"type": "NodePort"})))
        .await
        .unwrap();
    let before = recorded(&world).await;
    let address = before.0.first().unwrap().clone();
    world
        .delete(
            "networking.k8s.io/v1/ipaddresses",
            "",
            &address,
            &DeleteOptions::default(),
        )
        .await
        .unwrap();
    let stray = json!({
        "metadata": {"name": "10.9.0.77", "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "gone"}},
    });
    world
        .create("networking.k8s.io/v1/ipaddresses", "", stray)
        .await
        .unwrap();
    world.registry.prepare_services(jiff::Timestamp::now()).await.unwrap();
    assert_eq!(recorded(&world).await, before);
}

#[tokio::test]
async fn the_api_s_own_service_is_on_the_first_address_and_leads_to_all_servers_that_live() {
    let world = Arc::new(world(&["10.9.0.0/24"], 30_000..=30_002).await);
    let mut servers = tokio::task::JoinSet::new();
    for address in ["192.0.2.1", "192.0.2.2"] {
        let advertised = Advertised {
            address: address.parse().unwrap(),
            port: 6443,
            service_addresses: vec!["10.9.0.1".parse().unwrap()],
        };
        servers.spawn(advertised.keep(world.registry.clone()));
    }
    let expected = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]);
    let options = ListOptions {
        resource_version: "0".into(),
        ..ListOptions::default()
    };
    let mut watch = world.watch("v1/endpoints", "default", &options).await.unwrap();
    // They may overtake each other, but come to agree, and then nothing is written to and fro.
    let mut last = Value::Null;
    loop {
        let patience = if last == expected {
            Duration::from_millis(500)
        } else {
            PATIENCE
        };
        let object = match tokio::time::timeout(patience, watch.next()).await {
            Err(_) => break,
            Ok(Some(WatchEvent::Change(kind, change))) => decode(&change.json(kind)),
            Ok(Some(WatchEvent::Initial(entry))) => entry.decode(),
            Ok(other) => panic!("{other:?}"),
        };
        last = object["subsets"][0]["addresses"].clone();
    }
    assert_eq!(last, expected);
    let service = world.get("v1/services", "default", "kubernetes").await.unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.9.0.1");
}

#[tokio::test]
async fn the_ranges_are_told_by_an_object() {
    let world = world(&["10.9.0.0/24", "fd00:9::/112"], 30_000..=30_002).await;
    world.registry.prepare_services(jiff::Timestamp::now()).await.unwrap();
    let ranges = world
        .get("networking.k8s.io/v1/servicecidrs", "", "kubernetes")
        .await
        .unwrap();
    assert_eq!(ranges["spec"]["cidrs"], json!(["10.9.0.0/24", "fd00:9::/112"]));
    let revision = world.store.revision().await.unwrap();
    world.registry.prepare_services(jiff::Timestamp::now()).await.unwrap();
    assert_eq!(world.store.revision().await.unwrap(), revision);
}
