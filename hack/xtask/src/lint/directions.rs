//! Who may use whom.

use super::{Finding, Member};

/// A room of the workspace, and the rooms its product code may use beside `bosun-api`, which all may.
struct Room {
    name: &'static str,
    uses: Uses,
}

/// What a room may use.
enum Uses {
    /// These rooms.
    Only(&'static [&'static str]),
    /// Every room of the product: it wires them.
    Product,
    /// Every room: it is not part of the product.
    All,
}

use Uses::{All, Only, Product};

/// The rooms and their directions; a new room is entered here first.
const ROOMS: &[Room] = &[
    Room {
        name: "bosun-api",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-proto",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-pause",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-cri",
        // `bosun-pause`: the sandbox image is packed there.
        uses: Only(&["bosun-proto", "bosun-pause"]),
    },
    Room {
        name: "bosun-net",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-nft",
        uses: Only(&["bosun-net"]),
    },
    Room {
        name: "bosun-cni",
        uses: Only(&["bosun-net"]),
    },
    Room {
        name: "bosun-proxy",
        uses: Only(&["bosun-net", "bosun-nft"]),
    },
    Room {
        name: "bosun-dns",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-streaming",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-client",
        uses: Only(&["bosun-pki"]),
    },
    Room {
        name: "bosun-node",
        uses: Only(&[
            "bosun-client",
            "bosun-cri",
            "bosun-proto",
            "bosun-net",
            "bosun-pki",
            "bosun-proxy",
            "bosun-dns",
            "bosun-streaming",
        ]),
    },
    Room {
        name: "bosun-pki",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-schema",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-kinds",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-store",
        uses: Only(&[]),
    },
    Room {
        name: "bosun-apiserver",
        uses: Only(&[
            "bosun-store",
            "bosun-streaming",
            "bosun-pki",
            "bosun-schema",
            "bosun-kinds",
        ]),
    },
    Room {
        name: "bosun-scheduler",
        uses: Only(&["bosun-client"]),
    },
    Room {
        name: "bosun-controllers",
        uses: Only(&["bosun-client", "bosun-pki"]),
    },
    Room {
        name: "bosun-dev",
        uses: Only(&["bosun-client", "bosun-net", "bosun-cri"]),
    },
    Room {
        name: "bosun",
        uses: Product,
    },
    Room {
        name: "bosun-testkit",
        uses: All,
    },
    Room {
        name: "bosun-tests",
        uses: All,
    },
    Room {
        name: "bosun-bench",
        uses: All,
    },
    Room {
        name: "xtask",
        uses: Only(&[]),
    },
];

/// Rooms that are for tests alone.
const TEST_ROOMS: &[&str] = &["bosun-testkit", "bosun-tests", "bosun-bench"];

/// Crates that belong to some rooms only: the start of their name, the rooms, why.
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("netlink-", &["bosun-net", "bosun-nft"], "only net and nft talk netlink"),
    (
        "rtnetlink",
        &["bosun-net", "bosun-nft"],
        "only net and nft talk netlink",
    ),
    (
        "containerd-client",
        &["bosun-cri"],
        "the runtime is spoken to through bosun-cri",
    ),
];

/// Rooms that do no I/O, and the crates that would let them.
const PURE: &[&str] = &["bosun-api"];
const IO: &[&str] = &["tokio", "hyper", "tonic", "nix", "libc"];

/// Checks what every member declares.
pub(super) fn check(members: &[Member]) -> Vec<Finding> {
    members.iter().flat_map(check_member).collect()
}

fn check_member(member: &Member) -> Vec<Finding> {
    let name = member.name.as_str();
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        let message = format!("{name} is not in the table of rooms: enter it in hack/xtask/src/lint/directions.rs");
        return vec![Finding::error(message)];
    };
    let product = member.dependencies.iter().filter(|d| d.in_product());
    let mut findings = Vec::new();
    for used in product.map(|d| d.name.as_str()) {
        if is_room(used) && !room.may_use(used) {
            findings.push(Finding::error(format!(
                "{name} may not use {used}: {}",
                room.directions(used)
            )));
        }
        for (start, rooms, reason) in RESERVED {
            if used.starts_with(start) && !rooms.contains(&name) {
                findings.push(Finding::error(format!("{name} may not use {used}: {reason}")));
            }
        }
        if PURE.contains(&name) && IO.contains(&used) {
            findings.push(Finding::error(format!("{name} may not use {used}: it does no I/O")));
        }
    }
    findings
}

/// Checks all the crates a program is built of.
pub(super) fn check_tree(name: &str, crates: &[String]) -> Vec<Finding> {
    let runtime = crates
        .iter()
        .find(|c| ["tokio", "async-std", "smol"].contains(&c.as_str()));
    let finding = |c| {
        Finding::error(format!(
            "{name} is built of {c}: the plugin is synchronous, its start-up time counts"
        ))
    };
    runtime.map(finding).into_iter().collect()
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|room| room.name == name)
}

impl Room {
    fn may_use(&self, other: &str) -> bool {
        match self.uses {
            Only(rooms) => other == "bosun-api" || rooms.contains(&other),
            Product => !TEST_ROOMS.contains(&other),
            All => true,
        }
    }

    fn directions(&self, other: &str) -> String {
        match self.uses {
            _ if TEST_ROOMS.contains(&other) => "the product never depends on what is for tests".into(),
            Only(&[]) => "it may use only bosun-api".into(),
            Only(rooms) => format!("it may use only bosun-api, {}", rooms.join(", ")),
            Product | All => "it is not part of the product".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Dependency, Level},
        *,
    };

    /// Dependencies by name and kind.
    type Declared<'a> = &'a [(&'a str, Option<&'a str>)];

    fn member(name: &str, dependencies: Declared<'_>) -> Member {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).into(),
            kind: kind.map(Into::into),
        };
        Member {
            name: name.into(),
            manifest_path: "Cargo.toml".into(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn directions_between_rooms_hold() {
        let allowed: &[(&str, Declared<'_>)] = &[
            (
                "bosun-node",
                &[("bosun-api", None), ("bosun-cri", None), ("tokio", None)],
            ),
            ("bosun-node", &[("bosun-testkit", Some("dev"))]),
            ("bosun", &[("bosun-node", None), ("bosun-store", None)]),
            ("bosun-net", &[("rtnetlink", None), ("netlink-packet-route", None)]),
            ("bosun-testkit", &[("bosun-cri", None)]),
        ];
        for (name, dependencies) in allowed {
            assert_eq!(check(&[member(name, dependencies)]), [], "{name}");
        }
        let refused = [
            ("bosun-node", "bosun-store", None),
            ("bosun-dns", "bosun-apiserver", None),
            ("bosun-cni", "bosun-store", None),
            ("bosun-scheduler", "bosun-store", None),
            ("bosun-controllers", "bosun-apiserver", None),
            ("bosun-node", "rtnetlink", None),
            ("bosun-node", "netlink-sys", Some("build")),
            ("bosun", "bosun-testkit", None),
            ("bosun-cri", "bosun-testkit", None),
            ("bosun-api", "tokio", None),
            ("bosun-api", "bosun-proto", None),
            ("bosun-node", "containerd-client", None),
        ];
        for (name, used, kind) in refused {
            let findings = check(&[member(name, &[(used, kind)])]);
            assert_eq!(findings.len(), 1, "{name} -> {used}: {findings:?}");
            assert_eq!(findings[0].level, Level::Error);
        }
    }

    #[test]
    fn a_room_outside_the_table_is_refused() {
        let findings = check(&[member("bosun-new", &[])]);
        assert!(findings[0].message.contains("enter it"), "{findings:?}");
    }

    #[test]
    fn the_plugin_is_built_without_an_async_runtime() {
        assert_eq!(check_tree("bosun-cni", &["serde".into(), "netlink-sys".into()]), []);
        assert_eq!(check_tree("bosun-cni", &["serde".into(), "tokio".into()]).len(), 1);
    }

    #[test]
    fn the_table_names_only_rooms_it_has() {
        for room in ROOMS {
            if let Only(rooms) = room.uses {
                assert!(rooms.iter().all(|used| is_room(used)), "{}", room.name);
            }
        }
    }
}
