//! Kernel settings below `/proc/sys/net`, of the namespace the calling thread is in.

use std::{fs, io, path::PathBuf};

use crate::cidr::Family;

/// A setting could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {key} to {value}")]
pub struct Error {
    key: String,
    value: String,
    #[source]
    source: io::Error,
}

/// A setting and the value it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Below `/proc/sys/`, with `/` between the parts: an interface's name may hold a dot.
    pub key: String,
    /// The value.
    pub value: &'static str,
    /// Whether a kernel without the setting is as good (one without IPv6 needs none of it switched off).
    pub optional: bool,
}

impl Sysctl {
    /// A setting of one interface.
    pub fn of_link(family: Family, link: &str, name: &str, value: &'static str) -> Self {
        let family = match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        Self {
            key: format!("net/{family}/conf/{link}/{name}"),
            value,
            optional: false,
        }
    }

    /// A kernel without the setting is as good.
    pub fn if_there(self) -> Self {
        Self { optional: true, ..self }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(&self.key)
    }

    /// Writes the value.
    pub fn apply(&self) -> Result<(), Error> {
        match fs::write(self.path(), self.value) {
            Err(e) if self.optional && e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(self.failed(source)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether it has the value.
    pub fn is_set(&self) -> Result<bool, Error> {
        match fs::read_to_string(self.path()) {
            Ok(value) => Ok(value.trim_end() == self.value),
            Err(e) if self.optional && e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error {
            key: self.key.replace('/', "."),
            value: self.value.to_owned(),
            source,
        }
    }
}

/// Makes this thread's namespace route packets of a family, unless it does. A node that routes IPv6 no longer learns its
/// own routes from advertisements, unless told to: a link that did goes on.
pub fn enable_forwarding(family: Family) -> Result<(), Error> {
    let key = match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    };
    let switch = Sysctl {
        key: key.into(),
        value: "1",
        optional: false,
    };
    if switch.is_set()? {
        return Ok(());
    }
    if family == Family::V6 {
        for link in links()? {
            let learns = Sysctl::of_link(Family::V6, &link, "accept_ra", "1");
            if learns.clone().if_there().is_set()? {
                Sysctl {
                    value: "2",
                    optional: true,
                    ..learns
                }
                .apply()?;
            }
        }
    }
    switch.apply()
}

/// The links that have IPv6 settings.
fn links() -> Result<Vec<String>, Error> {
    const ALL: &str = "/proc/sys/net/ipv6/conf";
    let failed = |source| Error {
        key: "net.ipv6.conf.*.accept_ra".into(),
        value: "2".into(),
        source,
    };
    let mut links = Vec::new();
    for entry in fs::read_dir(ALL).map_err(failed)? {
        links.extend(entry.map_err(failed)?.file_name().into_string());
    }
    // These two are no links; what they say is for links to come, which are pods'.
    links.retain(|link| link != "all" && link != "default");
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_with_a_dot_in_its_name_keeps_it() {
        assert_eq!(
            Sysctl::of_link(Family::V6, "eth0.5", "accept_ra", "0").path(),
            PathBuf::from("/proc/sys/net/ipv6/conf/eth0.5/accept_ra")
        );
    }

    #[test]
    fn a_missing_setting_is_an_error_only_where_it_matters() {
        let missing = Sysctl::of_link(Family::V4, "no-such-link", "rp_filter", "1");
        let error = missing.apply().unwrap_err().to_string();
        assert_eq!(error, "cannot set net.ipv4.conf.no-such-link.rp_filter to 1");
        assert!(missing.is_set().is_err());
        missing.clone().if_there().apply().unwrap();
        assert!(!missing.if_there().is_set().unwrap());
    }
}
