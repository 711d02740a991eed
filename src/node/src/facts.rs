//! What the agent must know of its machine.

pub mod machine;

use std::{fs, io, net::IpAddr};

use bosun_net::underlay;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// Where the kernel tells of memory.
pub const MEMINFO: &str = "/proc/meminfo";

/// The node's addresses, IPv4 first: those it speaks to the world from, or where it reaches no world, those its
/// interfaces have.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let known = underlay::node_addresses().map_err(io::Error::other)?;
    if !known.is_empty() {
        return Ok(known);
    }
    let all = getifaddrs()?.filter(|interface| {
        interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    let mut addresses: Vec<IpAddr> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .filter(|address| is_global(*address))
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !(address.is_link_local() || address.is_loopback() || address.is_unspecified()),
        IpAddr::V6(address) => !(address.is_unicast_link_local() || address.is_loopback() || address.is_unspecified()),
    }
}

/// Processor time, in thousandths of a processor.
pub fn milli_cpu() -> i64 {
    std::thread::available_parallelism().map_or(1000, |cores| cores.get() as i64 * 1000)
}

/// Memory, in bytes.
pub fn memory() -> io::Result<i64> {
    let text = fs::read_to_string(MEMINFO)?;
    total_memory(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no MemTotal"))
}

fn total_memory(meminfo: &str) -> Option<i64> {
    kibibytes(meminfo, "MemTotal:")
}

/// A line of `/proc/meminfo`, in bytes.
fn kibibytes(meminfo: &str, field: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            total_memory("MemTotal:       24684092 kB\nMemFree: 1 kB\n"),
            Some(24_684_092 * 1024)
        );
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn an_address_that_only_a_neighbour_can_reach_is_not_the_nodes() {
        for (address, global) in [
            ("10.0.0.1", true),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(is_global(address.parse().unwrap()), global, "{address}");
        }
    }
}
