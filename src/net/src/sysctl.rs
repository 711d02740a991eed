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

    /// The switch that makes this namespace route packets of a family.
    pub fn forwarding(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                key: "net/ipv4/ip_forward".into(),
                value: "1",
                optional: false,
            },
            Family::V6 => Self {
                key: "net/ipv6/conf/all/forwarding".into(),
                value: "1",
                optional: false,
            },
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

    /// Writes the value unless it is there: where writing is dear, or `/proc/sys` may be read-only.
    pub fn ensure(&self) -> Result<(), Error> {
        match fs::read_to_string(self.path()) {
            Ok(value) if value.trim_end() == self.value => Ok(()),
            Ok(_) => self.apply(),
            Err(e) if self.optional && e.kind() == io::ErrorKind::NotFound => Ok(()),
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
        missing.clone().if_there().apply().unwrap();
        missing.if_there().ensure().unwrap();
    }
}
