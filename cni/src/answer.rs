//! What goes back to the runtime, in the form of the version it speaks. Pure.

use std::{error::Error as StdError, fmt, net::IpAddr};

use bosun_net::{Cidr, Family, config::CNI_VERSIONS, link::Mac, wire};
use serde_json::{Value, json};

use crate::plan::Outcome;

/// A version of the CNI specification this plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses without their family.
    V1_0_0,
    /// 1.1.0: STATUS and GC.
    V1_1_0,
}

impl Version {
    const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// A version by its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        CNI_VERSIONS[self as usize]
    }
}

/// The specification's error codes, and our own from 100 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A version of the specification not spoken here, or without the verb.
    IncompatibleVersion = 1,
    /// There is no such container; nothing needs to be cleaned up.
    UnknownContainer = 3,
    /// The environment is not as the specification says.
    InvalidEnvironment = 4,
    /// The machine failed us.
    Io = 5,
    /// The input is not JSON of the right form.
    Undecodable = 6,
    /// The configuration can't work.
    InvalidConfig = 7,
    /// It may work later.
    TryAgain = 11,
    /// No ADD can succeed now.
    NotAvailable = 50,
    /// A wire is not as it was made.
    Changed = 100,
}

/// Why a call failed, for the runtime and the person who reads its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// What was to be done, to what, and why it wasn't.
    pub message: String,
    /// The causes, the nearest first.
    pub details: String,
}

impl CniError {
    /// A failure without a further cause.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// A failure told by an error and its causes.
    pub fn from_error(code: Code, error: &dyn StdError) -> Self {
        let this = Self::new(code, error.to_string());
        match error.source() {
            Some(source) => this.because(source),
            None => this,
        }
    }

    /// Adds a cause, with its own.
    pub fn because(mut self, cause: &dyn StdError) -> Self {
        let mut cause = Some(cause);
        while let Some(error) = cause {
            if !self.details.is_empty() {
                self.details.push_str(": ");
            }
            self.details.push_str(&error.to_string());
            cause = error.source();
        }
        self
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.details.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.details)
        }
    }
}

impl StdError for CniError {}

/// What a call prints and how it exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The answer; null where the specification wants none.
    pub json: Value,
    /// The exit status.
    pub status: u8,
}

impl Output {
    /// Success without an answer.
    pub fn nothing() -> Self {
        Self {
            json: Value::Null,
            status: 0,
        }
    }

    /// Success with an answer.
    pub fn success(json: Value) -> Self {
        Self { json, status: 0 }
    }

    /// What to print, if anything.
    pub fn text(&self) -> Option<String> {
        (!self.json.is_null()).then(|| format!("{}\n", self.json))
    }
}

/// The answer of a failed call.
pub fn failure(version: Option<Version>, error: &CniError) -> Output {
    let json = json!({
        "cniVersion": version.unwrap_or(Version::NEWEST).as_str(),
        "code": error.code as u32,
        "msg": error.message,
        "details": error.details,
    });
    Output { json, status: 1 }
}

/// The answer to VERSION.
pub fn versions(asked_in: &str) -> Value {
    json!({ "cniVersion": asked_in, "supportedVersions": CNI_VERSIONS })
}

/// The answer to ADD.
pub fn added(version: Version, outcome: &Outcome<'_>) -> Value {
    let interface = |name: &str, mac: Mac, sandbox: Option<&str>| {
        let mut interface = json!({ "name": name, "mac": mac.to_string() });
        if version >= Version::V1_1_0 {
            interface["mtu"] = outcome.wire.mtu.into();
        }
        if let Some(sandbox) = sandbox {
            interface["sandbox"] = sandbox.into();
        }
        interface
    };
    let pods = || outcome.wire.addresses.iter().map(|pair| pair.pod);
    let ips: Vec<_> = pods()
        .map(|pod| ip(version, Cidr::host(pod), Some(wire::gateway(Family::of(pod))), 1))
        .collect();
    let routes: Vec<_> = pods()
        .map(|pod| {
            let family = Family::of(pod);
            json!({ "dst": family.everything(), "gw": wire::gateway(family) })
        })
        .collect();
    json!({
        "cniVersion": version.as_str(),
        "interfaces": [
            interface(&outcome.wire.host_link, bosun_net::names::HOST_MAC, None),
            interface(&outcome.wire.pod_link, outcome.wire.pod_mac, Some(outcome.netns)),
        ],
        "ips": ips,
        "routes": routes,
        "dns": {},
    })
}

/// The answer to an ADD of a loopback.
pub fn added_loopback(version: Version, netns: &str, addresses: &[Cidr]) -> Value {
    let ips: Vec<_> = addresses.iter().map(|address| ip(version, *address, None, 0)).collect();
    json!({
        "cniVersion": version.as_str(),
        "interfaces": [{ "name": "lo", "mac": Mac([0; 6]).to_string(), "sandbox": netns }],
        "ips": ips,
        "dns": {},
    })
}

fn ip(version: Version, address: Cidr, gateway: Option<IpAddr>, interface: u32) -> Value {
    let mut ip = json!({ "address": address, "interface": interface });
    if let Some(gateway) = gateway {
        ip["gateway"] = json!(gateway);
    }
    if version < Version::V1_0_0 {
        ip["version"] = match address.family() {
            Family::V4 => "4".into(),
            Family::V6 => "6".into(),
        };
    }
    ip
}

/// What the agent and the plugin agree on must be what is spoken here.
const _: () = assert!(Version::ALL.len() == CNI_VERSIONS.len());

#[cfg(test)]
mod tests {
    use super::*;
    use bosun_net::wire::{Pair, Wire};

    fn wire() -> Wire {
        let pair = |pod: &str, node: &str| Pair {
            pod: pod.parse().unwrap(),
            node: node.parse().unwrap(),
        };
        Wire {
            host_link: "bosx".into(),
            alias: String::new(),
            pod_link: "eth0".into(),
            pod_mac: Mac([10, 0, 0, 0, 0, 7]),
            mtu: 1450,
            addresses: vec![pair("10.0.0.7", "10.0.0.1"), pair("fd00::7", "fd00::1")],
        }
    }

    fn answer(version: Version) -> Value {
        added(
            version,
            &Outcome {
                wire: &wire(),
                netns: "/run/netns/x",
            },
        )
    }

    #[test]
    fn each_version_gets_its_own_form_of_the_result() {
        assert_eq!(
            answer(Version::V1_0_0),
            json!({
                "cniVersion": "1.0.0",
                "interfaces": [
                    { "name": "bosx", "mac": "02:62:6f:73:75:6e" },
                    { "name": "eth0", "mac": "0a:00:00:00:00:07", "sandbox": "/run/netns/x" },
                ],
                "ips": [
                    { "address": "10.0.0.7/32", "gateway": "169.254.1.1", "interface": 1 },
                    { "address": "fd00::7/128", "gateway": "fe80::1", "interface": 1 },
                ],
                "routes": [
                    { "dst": "0.0.0.0/0", "gw": "169.254.1.1" },
                    { "dst": "::/0", "gw": "fe80::1" },
                ],
                "dns": {},
            })
        );
        for version in [Version::V0_3_1, Version::V0_4_0] {
            let answer = answer(version);
            assert_eq!(answer["cniVersion"], version.as_str());
            assert_eq!(
                (&answer["ips"][0]["version"], &answer["ips"][1]["version"]),
                (&json!("4"), &json!("6"))
            );
            assert_eq!(answer["interfaces"][0].get("mtu"), None);
        }
        assert_eq!(answer(Version::V1_1_0)["interfaces"][1]["mtu"], 1450);
        assert_eq!(answer(Version::V1_1_0)["ips"][0].get("version"), None);
    }

    #[test]
    fn a_failure_tells_code_message_and_causes() {
        let cause = std::io::Error::other("disk on fire");
        let error = CniError::new(Code::Io, "cannot write x").because(&cause);
        let output = failure(Some(Version::V0_4_0), &error);
        assert_eq!(output.status, 1);
        assert_eq!(
            output.json,
            json!({ "cniVersion": "0.4.0", "code": 5, "msg": "cannot write x", "details": "disk on fire" })
        );
    }

    #[test]
    fn versions_are_known_by_their_names_only() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for text in ["", "0.2.0", "0.3.0", "1.0", "1.1.0 ", "2.0.0"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert_eq!(
            versions("0.4.0"),
            json!({ "cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] })
        );
    }
}
