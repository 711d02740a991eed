//! What an agent clears away when it starts: what killed processes, its own and the runtime's, left of pods that are no
//! more. Pure; [`crate::node`] asks the kernel and does it.

use std::{collections::HashMap, net::IpAddr};

use crate::{
    cidr::Cidr,
    ipam::Record,
    link::Link,
    names::{Alias, Attachment},
    netns::Presence,
    route::Route,
};

/// What there is. A plugin may be at work meanwhile, so it must be gathered in this order: an ADD makes the record, then
/// the link, then the routes, and a DEL removes the link (and the routes with it), then the record. Then whatever is seen
/// without what it stands on was left, or is gone already when it is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// First: all routes.
    pub routes: Vec<Route>,
    /// Second: all links.
    pub links: Vec<Link>,
    /// Last: the network's records, each with what became of its namespace.
    pub records: Vec<(IpAddr, Record, Presence)>,
}

/// What is to be removed, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepPlan {
    /// Routes of ours to a pod by a link that is not there.
    pub routes: Vec<Route>,
    /// Host ends of wires, by name.
    pub links: Vec<String>,
    /// Records.
    pub records: Vec<(IpAddr, Record)>,
}

impl SweepPlan {
    /// Whether there is nothing to do, as there should be.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.links.is_empty() && self.records.is_empty()
    }
}

/// Decides what was left of one network's pods.
pub fn plan(network: &str, observed: &Observed) -> SweepPlan {
    let ours: Vec<(&Link, Attachment)> = observed
        .links
        .iter()
        .filter_map(|link| {
            let alias = Alias::parse(link.alias.as_deref()?)?;
            (alias.network == network).then_some((link, alias.attachment))
        })
        .collect();
    let mut holders: HashMap<&Attachment, Presence> = HashMap::new();
    for (_, record, presence) in &observed.records {
        holders.insert(&record.attachment, *presence);
    }
    let links = ours
        .iter()
        .filter(|(_, attachment)| matches!(holders.get(attachment), None | Some(Presence::Gone)))
        .map(|(link, _)| link.name.clone())
        .collect();
    let wired = |record: &Record| ours.iter().any(|(_, attachment)| *attachment == record.attachment);
    let records = observed
        .records
        .iter()
        .filter(|(_, record, presence)| match presence {
            Presence::There => false,
            Presence::Gone => true,
            // The kernel removes a wire with its namespace: one that is there is in use where we don't see it.
            Presence::Unmounted => !wired(record),
        })
        .map(|(address, record, _)| (*address, record.clone()))
        .collect();
    let exists = |index: u32| observed.links.iter().any(|link| link.index == index);
    let routes = observed
        .routes
        .iter()
        .filter(|route| {
            route.ours
                && route.destination == Cidr::host(route.destination.address())
                && route.link.is_some_and(|index| !exists(index))
        })
        .cloned()
        .collect();
    SweepPlan { routes, links, records }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str) -> Attachment {
        Attachment {
            container: container.into(),
            ifname: "eth0".into(),
        }
    }

    fn link(network: &str, container: &str, index: u32) -> Link {
        let alias = Alias {
            network: network.into(),
            attachment: attachment(container),
            pod: None,
        };
        Link {
            index,
            name: format!("bos{container}"),
            alias: Some(alias.to_text()),
            mac: None,
            mtu: 1500,
            up: true,
            loopback: false,
            peer: Some(2),
        }
    }

    fn record(container: &str, presence: Presence) -> (IpAddr, Record, Presence) {
        let record = Record {
            attachment: attachment(container),
            netns: "/run/netns/x".into(),
            inode: 1,
            pod: None,
            created: 0,
        };
        ([10, 0, 0, container.as_bytes()[0]].into(), record, presence)
    }

    fn planned(links: Vec<Link>, records: Vec<(IpAddr, Record, Presence)>) -> (Vec<String>, Vec<String>) {
        let plan = plan(
            "n",
            &Observed {
                routes: Vec::new(),
                links,
                records,
            },
        );
        (
            plan.links,
            plan.records
                .into_iter()
                .map(|(_, record)| record.attachment.container)
                .collect(),
        )
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_no_pod_stands_behind_is_removed() {
        use Presence::{Gone, There, Unmounted};
        for (case, links, records, removed_links, removed_records) in [
            (
                "a running pod",
                vec![link("n", "a", 5)],
                vec![record("a", There)],
                vec![],
                vec![],
            ),
            (
                "an ADD at work: the record comes first",
                vec![],
                vec![record("a", There)],
                vec![],
                vec![],
            ),
            (
                "a namespace that lost its name",
                vec![link("n", "a", 5)],
                vec![record("a", Gone)],
                vec!["bosa"],
                vec!["a"],
            ),
            (
                "a namespace that is gone, and its wire with it",
                vec![],
                vec![record("a", Gone)],
                vec![],
                vec!["a"],
            ),
            (
                "a wire without a record",
                vec![link("n", "a", 5)],
                vec![],
                vec!["bosa"],
                vec![],
            ),
            (
                "a namespace mounted elsewhere",
                vec![link("n", "a", 5)],
                vec![record("a", Unmounted)],
                vec![],
                vec![],
            ),
            (
                "a namespace removed halfway",
                vec![],
                vec![record("a", Unmounted)],
                vec![],
                vec!["a"],
            ),
            (
                "another network's wire",
                vec![link("other", "a", 5)],
                vec![],
                vec![],
                vec![],
            ),
            (
                "one of two",
                vec![link("n", "a", 5), link("n", "b", 6)],
                vec![record("a", There), record("b", Gone)],
                vec!["bosb"],
                vec!["b"],
            ),
        ] {
            assert_eq!(
                planned(links, records),
                (strings(&removed_links), strings(&removed_records)),
                "{case}"
            );
        }
    }

    #[test]
    fn links_of_others_stay_whatever_their_alias_says() {
        let mut uplink = link("n", "a", 2);
        uplink.alias = Some("uplink to the world".into());
        let mut plain = link("n", "b", 3);
        plain.alias = None;
        assert_eq!(planned(vec![uplink, plain], vec![]), (vec![], vec![]));
    }

    #[test]
    fn a_route_of_ours_to_a_pod_goes_when_its_link_is_not_there() {
        let route = |destination: &str, index: u32, ours: bool| Route {
            destination: destination.parse().unwrap(),
            link: Some(index),
            gateway: None,
            source: None,
            ours,
        };
        let lost = route("10.0.0.7/32", 9, true);
        let observed = Observed {
            routes: vec![
                route("10.0.0.5/32", 5, true),
                lost.clone(),
                route("10.0.0.8/32", 9, false),
                route("10.1.0.0/24", 9, true),
            ],
            links: vec![link("n", "a", 5)],
            records: vec![record("a", Presence::There)],
        };
        assert_eq!(plan("n", &observed).routes, [lost]);
    }
}
