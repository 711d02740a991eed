//! What is asked: the environment and the configuration, checked before anything is done. Pure.

use std::{ffi::OsString, path::PathBuf};

use bosun_net::{
    Attachment,
    config::{DEFAULT_NETWORK, DEFAULT_RUN_DIR, NetworkConfig},
    names,
};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{CniError, Code, Version};

/// The specification's verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make the wire.
    Add,
    /// Remove it.
    Del,
    /// Compare it with what was made.
    Check,
    /// Tell whether an ADD could succeed.
    Status,
    /// Remove whatever is of no attachment in a list.
    Gc,
    /// Tell which versions are spoken.
    Version,
}

/// A verb with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The version the answer is given in.
    pub version: Version,
    /// The version as it was written, which need not be spoken here where that doesn't matter.
    pub version_text: String,
    /// The plugin's `type`: ours, or `loopback`.
    pub loopback: bool,
    /// The verb.
    pub verb: Verb,
}

/// A verb with its own arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// ADD.
    Add(Box<Add>),
    /// DEL: needs the least, for it must do what it can when the rest is lost.
    Del {
        /// The network's name.
        network: String,
        /// Where the addresses are recorded.
        run_dir: PathBuf,
        /// What to delete.
        attachment: Attachment,
    },
    /// CHECK.
    Check {
        /// The configuration.
        config: NetworkConfig,
        /// What to check.
        attachment: Attachment,
        /// Its namespace.
        netns: PathBuf,
        /// What ADD had answered.
        previous: Value,
    },
    /// STATUS.
    Status(NetworkConfig),
    /// GC.
    Gc {
        /// The network's name.
        network: String,
        /// Where the addresses are recorded.
        run_dir: PathBuf,
        /// What is to stay.
        valid: Vec<Attachment>,
    },
    /// VERSION.
    Version,
}

/// The arguments of an ADD.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// The configuration.
    pub config: NetworkConfig,
    /// What to add.
    pub attachment: Attachment,
    /// Its namespace, as the runtime wrote it.
    pub netns: String,
    /// `namespace/name` of the pod.
    pub pod: Option<String>,
    /// The answer of a plugin before this one in the list.
    pub previous: Option<Value>,
}

/// The part of the input that every plugin gets.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "cniVersion", default)]
    version: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(rename = "prevResult", default)]
    previous: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid_attachments: Option<Vec<Attachment>>,
    /// The name in drafts of the specification, which some runtimes send as well.
    #[serde(rename = "cni.dev/attachments", default)]
    attachments: Option<Vec<Attachment>>,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The verb.
pub fn command(environment: Environment<'_>) -> Result<Command, CniError> {
    let value = required(environment, "CNI_COMMAND")?;
    Ok(match value.as_str() {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "STATUS" => Command::Status,
        "GC" => Command::Gc,
        "VERSION" => Command::Version,
        other => {
            let message = format!(
                "CNI_COMMAND `{other}` is none of ADD, DEL, CHECK, STATUS, GC, VERSION; this program is run by a \
                 container runtime"
            );
            return Err(CniError::new(Code::InvalidEnvironment, message));
        }
    })
}

impl Call {
    /// Checks what is asked.
    pub fn parse(command: Command, environment: Environment<'_>, input: &[u8]) -> Result<Self, CniError> {
        let undecodable = |e: &serde_json::Error| {
            CniError::new(Code::Undecodable, "the network configuration on stdin is malformed").because(e)
        };
        // A VERSION from a person's terminal comes without any.
        let input = if command == Command::Version && input.trim_ascii().is_empty() {
            b"{}"
        } else {
            input
        };
        // serde would take a list for a structure as well.
        if !input.trim_ascii_start().starts_with(b"{") {
            let message = "the network configuration on stdin is no JSON object";
            return Err(CniError::new(Code::Undecodable, message));
        }
        let mut envelope: Envelope = serde_json::from_slice(input).map_err(|e| undecodable(&e))?;
        let version = version(command, &envelope.version)?;
        let loopback = envelope.kind == "loopback";

        let verb = match command {
            Command::Version => Verb::Version,
            Command::Del => {
                let attachment = attachment(environment)?;
                let (network, run_dir) = whereabouts(input, &envelope)?;
                Verb::Del {
                    network,
                    run_dir,
                    attachment,
                }
            }
            Command::Gc => {
                let valid = envelope.valid_attachments.take().or(envelope.attachments.take());
                let Some(valid) = valid.or_else(|| loopback.then(Vec::new)) else {
                    // To take its absence for an empty list would remove every pod's wire.
                    let message = "GC without `cni.dev/valid-attachments`: it must list what is to stay";
                    return Err(CniError::new(Code::InvalidConfig, message));
                };
                let (network, run_dir) = whereabouts(input, &envelope)?;
                Verb::Gc {
                    network,
                    run_dir,
                    valid,
                }
            }
            Command::Add => Verb::Add(Box::new(Add {
                config: config(input, &envelope, loopback)?,
                attachment: attachment(environment)?,
                netns: required(environment, "CNI_NETNS")?,
                pod: pod(environment)?,
                previous: envelope.previous,
            })),
            Command::Check => Verb::Check {
                config: config(input, &envelope, loopback)?,
                attachment: attachment(environment)?,
                netns: required(environment, "CNI_NETNS")?.into(),
                previous: match envelope.previous {
                    Some(previous) => previous,
                    None if loopback => Value::Null,
                    None => {
                        let message = "CHECK without `prevResult`: it must be what ADD answered";
                        return Err(CniError::new(Code::InvalidConfig, message));
                    }
                },
            },
            Command::Status => Verb::Status(config(input, &envelope, loopback)?),
        };
        let version_text = if envelope.version.is_empty() {
            version.as_str().to_owned()
        } else {
            envelope.version
        };
        Ok(Self {
            version,
            version_text,
            loopback,
            verb,
        })
    }
}

/// The version to answer in, which must have the verb.
fn version(command: Command, text: &str) -> Result<Version, CniError> {
    let incompatible = |message: String| Err(CniError::new(Code::IncompatibleVersion, message));
    let Some(version) = Version::parse(text) else {
        // What is removed does not depend on the version, and an answer there is none.
        if matches!(command, Command::Version | Command::Del) {
            return Ok(Version::NEWEST);
        }
        return incompatible(format!(
            "`cniVersion` `{text}` is not spoken here: use one of {}",
            bosun_net::config::CNI_VERSIONS.join(", ")
        ));
    };
    let since = match command {
        Command::Check => Version::V0_4_0,
        Command::Status | Command::Gc => Version::V1_1_0,
        Command::Add | Command::Del | Command::Version => Version::V0_3_1,
    };
    if version < since {
        return incompatible(format!(
            "`cniVersion` {text} has no such verb: it came with {}",
            since.as_str()
        ));
    }
    Ok(version)
}

/// The plugin's own configuration. A loopback has none.
fn config(input: &[u8], envelope: &Envelope, loopback: bool) -> Result<NetworkConfig, CniError> {
    if loopback {
        return Ok(NetworkConfig {
            name: envelope.name.clone(),
            run_dir: DEFAULT_RUN_DIR.into(),
            ranges: Vec::new(),
            mtu: 0,
        });
    }
    let config: NetworkConfig = serde_json::from_slice(input).map_err(|e| {
        CniError::new(
            Code::InvalidConfig,
            "the network configuration of plugin bosun-cni is invalid",
        )
        .because(&e)
    })?;
    config
        .pools()
        .map_err(|e| CniError::from_error(Code::InvalidConfig, &e))?;
    Ok(config)
}

/// The little that removing needs, whatever state the rest is in.
fn whereabouts(input: &[u8], envelope: &Envelope) -> Result<(String, PathBuf), CniError> {
    #[derive(Deserialize)]
    struct Lenient {
        #[serde(rename = "runDir", default)]
        run_dir: Value,
    }
    let name = if envelope.name.is_empty() {
        DEFAULT_NETWORK
    } else {
        &envelope.name
    };
    names::check_network_name(name).map_err(|e| CniError::from_error(Code::InvalidConfig, &e))?;
    let run_dir = match serde_json::from_slice::<Lenient>(input) {
        Ok(Lenient {
            run_dir: Value::String(run_dir),
        }) if run_dir.starts_with('/') => run_dir,
        _ => DEFAULT_RUN_DIR.to_owned(),
    };
    Ok((name.to_owned(), run_dir.into()))
}

fn attachment(environment: Environment<'_>) -> Result<Attachment, CniError> {
    let invalid = |e: names::NameError| CniError::from_error(Code::InvalidEnvironment, &e);
    let container = required(environment, "CNI_CONTAINERID")?;
    names::check_container_id(&container).map_err(invalid)?;
    let ifname = required(environment, "CNI_IFNAME")?;
    names::check_interface_name(&ifname).map_err(invalid)?;
    Ok(Attachment { container, ifname })
}

/// The pod's name, from the arguments Kubernetes' runtimes give.
fn pod(environment: Environment<'_>) -> Result<Option<String>, CniError> {
    let Some(arguments) = optional(environment, "CNI_ARGS")? else {
        return Ok(None);
    };
    let (mut namespace, mut name) = (None, None);
    for argument in arguments.split(';').filter(|argument| !argument.is_empty()) {
        match argument.split_once('=') {
            Some(("K8S_POD_NAMESPACE", value)) => namespace = Some(value),
            Some(("K8S_POD_NAME", value)) => name = Some(value),
            Some(_) => {}
            None => {
                let message = format!("CNI_ARGS has `{argument}`, which is not of the form KEY=VALUE");
                return Err(CniError::new(Code::InvalidEnvironment, message));
            }
        }
    }
    Ok(namespace
        .zip(name)
        .map(|(namespace, name)| format!("{namespace}/{name}")))
}

fn required(environment: Environment<'_>, name: &str) -> Result<String, CniError> {
    optional(environment, name)?.ok_or_else(|| {
        CniError::new(
            Code::InvalidEnvironment,
            format!("the environment variable {name} is not set, or empty"),
        )
    })
}

fn optional(environment: Environment<'_>, name: &str) -> Result<Option<String>, CniError> {
    match environment(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok((!value.is_empty()).then_some(value)),
        Some(Err(value)) => {
            let message = format!("the environment variable {name} is not text: {}", value.display());
            Err(CniError::new(Code::InvalidEnvironment, message))
        }
    }
}

#[cfg(test)]
mod tests;
