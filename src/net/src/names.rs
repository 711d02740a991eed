//! What belongs to whom: an attachment's identity, and the names that are made from it. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::link::Mac;

/// One interface of one container: what CNI adds and deletes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The sandbox's id, as the runtime knows it.
    #[serde(rename = "containerID")]
    pub container: String,
    /// The name of the interface in the pod.
    pub ifname: String,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container)
    }
}

/// Why a name can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of CNI's form for container ids and network names.
    #[error(
        "{what} `{name}` must begin with a letter or digit, hold only letters, digits, `_`, `.` and `-`, and be at most {max} long"
    )]
    Identifier {
        /// `container id` or `network name`.
        what: &'static str,
        /// The name.
        name: String,
        /// The most characters it may have.
        max: usize,
    },
    /// Not what the kernel takes as an interface's name.
    #[error(
        "interface name `{0}` must have 1 to 15 characters, none of them `/`, `:` or a space, and not be `.` or `..`"
    )]
    Interface(String),
}

/// The longest container id: it is part of a file's name and of a link's alias.
pub const MAX_CONTAINER_ID: usize = 128;
/// The longest network name.
pub const MAX_NETWORK_NAME: usize = 48;

/// Checks a container id.
pub fn check_container_id(name: &str) -> Result<(), NameError> {
    check_identifier("container id", name, MAX_CONTAINER_ID)
}

/// Checks the name of a network.
pub fn check_network_name(name: &str) -> Result<(), NameError> {
    check_identifier("network name", name, MAX_NETWORK_NAME)
}

fn check_identifier(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    let good = name.len() <= max
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if good {
        Ok(())
    } else {
        Err(NameError::Identifier {
            what,
            name: name.to_owned(),
            max,
        })
    }
}

/// Checks the name of an interface.
pub fn check_interface_name(name: &str) -> Result<(), NameError> {
    let good = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .chars()
            .all(|c| !matches!(c, '/' | ':') && !c.is_whitespace() && !c.is_control());
    if good {
        Ok(())
    } else {
        Err(NameError::Interface(name.to_owned()))
    }
}

/// What the host ends of our wires begin with.
pub const HOST_LINK_PREFIX: &str = "bos";

/// The name of a wire's host end: the same for the same attachment, so that it is found again without a record.
pub fn host_link(network: &str, attachment: &Attachment) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = hash(network, attachment);
    let mut name = String::from(HOST_LINK_PREFIX);
    for _ in 0..12 {
        name.push(char::from(DIGITS[(hash & 31) as usize]));
        hash >>= 5;
    }
    name
}

/// The hardware address of every host end, so that a pod's gateway has the same one whatever the wire.
pub const HOST_MAC: Mac = Mac(*b"\x02bosun");

/// The hardware address of a pod's end: locally administered, and the same for the same attachment.
pub fn pod_mac(network: &str, attachment: &Attachment) -> Mac {
    let mut mac = [0x0a; 6];
    mac[1..].copy_from_slice(&hash(network, attachment).to_be_bytes()[3..]);
    Mac(mac)
}

/// FNV-1a of 64 bits over the parts, each closed by a zero, then mixed so that every bit of the result depends on all.
/// Written here because names must not change with a library's or the compiler's version.
fn hash(network: &str, attachment: &Attachment) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in [network, &attachment.container, &attachment.ifname] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Whose wire a host end is: its alias, which people read in `ip link` and a sweep reads after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The network's name.
    pub network: String,
    /// The attachment.
    pub attachment: Attachment,
    /// `namespace/name` of the pod, where the runtime told it.
    pub pod: Option<String>,
}

/// The kernel takes no longer alias (IFALIASZ less its end).
const MAX_ALIAS: usize = 255;

impl Alias {
    /// The text; a pod's name is cut where it does not fit, the rest always does.
    pub fn to_text(&self) -> String {
        let Attachment { container, ifname } = &self.attachment;
        let mut text = format!(
            "bosun network={} container={container} interface={ifname}",
            self.network
        );
        if let Some(pod) = &self.pod {
            text.push_str(" pod=");
            text.extend(pod.chars().filter(char::is_ascii_graphic));
            text.truncate(MAX_ALIAS);
        }
        text
    }

    /// What a link's alias tells, if it is one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next() != Some("bosun") {
            return None;
        }
        let (mut network, mut container, mut ifname, mut pod) = (None, None, None, None);
        for word in words {
            let (key, value) = word.split_once('=')?;
            let place = match key {
                "network" => &mut network,
                "container" => &mut container,
                "interface" => &mut ifname,
                "pod" => &mut pod,
                _ => continue,
            };
            *place = Some(value.to_owned());
        }
        Some(Self {
            network: network?,
            attachment: Attachment {
                container: container?,
                ifname: ifname?,
            },
            pod,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attachment(container: &str, ifname: &str) -> Attachment {
        Attachment {
            container: container.into(),
            ifname: ifname.into(),
        }
    }

    #[test]
    fn names_follow_cnis_and_the_kernels_rules() {
        for good in ["a", "0", "a-b_c.d", &"f".repeat(128)] {
            assert_eq!(check_container_id(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", ".", "..", "a/b", "a b", "a@b", "ä", &"f".repeat(129)] {
            assert!(check_container_id(bad).is_err(), "{bad}");
        }
        for good in ["eth0", "e", "fifteen-letters", "eth0.5", "a@b"] {
            assert_eq!(check_interface_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "sixteen--letters", "a/b", "a:b", "a b", "a\tb", "a\0"] {
            assert!(check_interface_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_host_ends_name_never_changes_for_an_attachment() {
        // A fixed value: an upgrade must find the wires of the version before.
        assert_eq!(host_link("bosun", &attachment("0123abcd", "eth0")), "bosoqe2nffpe2w6");
        assert_eq!(pod_mac("bosun", &attachment("0123abcd", "eth0")).0[0], 0x0a);
    }

    #[test]
    fn the_host_ends_name_depends_on_every_part() {
        let names = [
            host_link("bosun", &attachment("ab", "eth0")),
            host_link("bosun", &attachment("a", "beth0")),
            host_link("bosun", &attachment("ab", "eth1")),
            host_link("bosuna", &attachment("b", "eth0")),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| check_interface_name(n).is_ok()));
    }

    #[test]
    fn an_alias_too_long_for_the_kernel_loses_only_the_pods_name() {
        let alias = Alias {
            network: "n".repeat(MAX_NETWORK_NAME),
            attachment: attachment(&"c".repeat(MAX_CONTAINER_ID), "fifteen-letters"),
            pod: Some(format!("{}/{}", "s".repeat(63), "p".repeat(253))),
        };
        let text = alias.to_text();
        assert!(text.len() <= MAX_ALIAS, "{}", text.len());
        let read = Alias::parse(&text).unwrap();
        assert_eq!((read.network, read.attachment), (alias.network, alias.attachment));
    }

    #[test]
    fn aliases_of_others_are_not_ours() {
        for text in [
            "",
            "uplink",
            "bosun",
            "bosun network=a",
            "bosun network=a container=b",
            "bosun x",
        ] {
            assert_eq!(Alias::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_an_alias_tells_is_read_back(
            network in "[a-z0-9][a-z0-9._-]{0,40}",
            container in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}",
            ifname in "[a-z0-9@.=-]{1,15}",
            pod in proptest::option::of("[a-z-]{1,20}/[a-z-]{1,20}"),
        ) {
            let alias = Alias { network, attachment: Attachment { container, ifname }, pod };
            prop_assert_eq!(Alias::parse(&alias.to_text()), Some(alias));
        }

        #[test]
        fn no_alias_makes_the_reader_panic(text: String) {
            let _ = Alias::parse(&text);
        }
    }
}
