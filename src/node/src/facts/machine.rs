//! What the machine is, as a Node object tells of it.

use std::{collections::BTreeMap, fs, io, path::Path};

use k8s_openapi::{
    api::core::v1::{NodeSwapStatus, NodeSystemInfo},
    apimachinery::pkg::api::resource::Quantity,
};
use nix::sys::statvfs::statvfs;

/// The version of Kubernetes this agent is a node of, with ours behind.
pub const VERSION: &str = concat!("v1.36.0+bosun.", env!("CARGO_PKG_VERSION"));

/// Memory that pods can't have: what upstream's default eviction threshold keeps free.
const KEPT_MEMORY: i64 = 100 << 20;
/// Of the disk, a tenth likewise.
const KEPT_DISK_SHARE: u64 = 10;

/// What the machine is. None of it changes while the agent runs, but for what an operator plugs in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// `/etc/machine-id`.
    pub id: String,
    /// The firmware's UUID.
    pub system_uuid: String,
    /// Another one after each boot.
    pub boot_id: String,
    /// Such as `6.1.0-13-amd64`.
    pub kernel: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// Processor time, in thousandths.
    pub milli_cpu: i64,
    /// In bytes.
    pub memory: i64,
    /// In bytes.
    pub swap: i64,
    /// Bytes of each size of huge pages, by the resource's name.
    pub huge_pages: BTreeMap<String, i64>,
    /// Size of the file system that pods' directories are on, in bytes.
    pub disk: u64,
    /// The most pods at a time.
    pub max_pods: u32,
}

impl Machine {
    /// Looks at this machine. What can't be read is left empty, but for memory.
    pub fn look(root: &Path, max_pods: u32) -> io::Result<Self> {
        let meminfo = fs::read_to_string(super::MEMINFO)?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no MemTotal");
        let disk = statvfs(root).map(|found| found.blocks() * found.fragment_size());
        Ok(Self {
            id: line("/etc/machine-id"),
            system_uuid: line("/sys/class/dmi/id/product_uuid"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            milli_cpu: super::milli_cpu(),
            memory: super::kibibytes(&meminfo, "MemTotal:").ok_or_else(invalid)?,
            swap: super::kibibytes(&meminfo, "SwapTotal:").unwrap_or(0),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            disk: disk.unwrap_or(0),
            max_pods,
        })
    }

    /// `status.capacity`.
    pub fn capacity(&self) -> BTreeMap<String, Quantity> {
        let mut all = self.shared(self.memory);
        all.insert("ephemeral-storage".into(), kibi(self.disk.cast_signed()));
        all
    }

    /// `status.allocatable`: what of it pods may ask for.
    pub fn allocatable(&self) -> BTreeMap<String, Quantity> {
        let mut all = self.shared(self.allocatable_memory());
        let disk = self.disk - self.disk / KEPT_DISK_SHARE;
        all.insert("ephemeral-storage".into(), Quantity(disk.to_string()));
        all
    }

    /// Memory that pods may ask for, in bytes.
    pub fn allocatable_memory(&self) -> i64 {
        let huge: i64 = self.huge_pages.values().sum();
        (self.memory - huge - KEPT_MEMORY).max(0)
    }

    fn shared(&self, memory: i64) -> BTreeMap<String, Quantity> {
        let cpu = match self.milli_cpu {
            milli if milli % 1000 == 0 => (milli / 1000).to_string(),
            milli => format!("{milli}m"),
        };
        let mut all = BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu)),
            ("memory".to_owned(), kibi(memory)),
            ("pods".to_owned(), Quantity(self.max_pods.to_string())),
        ]);
        all.extend(self.huge_pages.iter().map(|(name, bytes)| (name.clone(), kibi(*bytes))));
        all
    }

    /// `status.nodeInfo`. The runtime's version such as `containerd://1.7.0`.
    pub fn system_info(&self, runtime_version: String) -> NodeSystemInfo {
        NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: self.boot_id.clone(),
            container_runtime_version: runtime_version,
            kernel_version: self.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: VERSION.to_owned(),
            machine_id: self.id.clone(),
            operating_system: "linux".to_owned(),
            os_image: self.os_image.clone(),
            swap: (self.swap > 0).then_some(NodeSwapStatus {
                capacity: Some(self.swap),
            }),
            system_uuid: self.system_uuid.clone(),
        }
    }
}

/// The machine's architecture in Kubernetes' words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kibi(bytes: i64) -> Quantity {
    if bytes % 1024 == 0 && bytes > 0 {
        Quantity(format!("{}Ki", bytes / 1024))
    } else {
        Quantity(bytes.to_string())
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `PRETTY_NAME` of `/etc/os-release`.
fn os_image(os_release: &str) -> String {
    let mut lines = os_release.lines();
    let name = lines.find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches(['"', '\''])).to_owned()
}

/// Huge pages by size: one directory each, such as `hugepages-2048kB`.
fn huge_pages(directory: &Path) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<i64>().ok());
        let count = fs::read_to_string(entry.path().join("nr_hugepages"));
        let count = count.ok().and_then(|count| count.trim().parse::<i64>().ok());
        if let (Some(size), Some(count)) = (size, count) {
            found.insert(format!("hugepages-{}", binary(size)), size * 1024 * count);
        }
    }
    found
}

/// A size in KiB, in the largest unit that it is a whole number of.
fn binary(kibibytes: i64) -> String {
    match kibibytes {
        size if size % (1 << 20) == 0 => format!("{}Gi", size >> 20),
        size if size % (1 << 10) == 0 => format!("{}Mi", size >> 10),
        size => format!("{size}Ki"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_may_ask_for_what_the_machine_keeps_not_for_itself() {
        let machine = Machine {
            milli_cpu: 2000,
            memory: 4 << 30,
            disk: 1000 << 20,
            max_pods: 110,
            huge_pages: BTreeMap::from([("hugepages-2Mi".to_owned(), 1 << 30)]),
            ..Machine::default()
        };
        let told = |amounts: BTreeMap<String, Quantity>| {
            let amounts = amounts.into_iter().map(|(name, amount)| format!("{name}={}", amount.0));
            amounts.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            told(machine.capacity()),
            "cpu=2 ephemeral-storage=1024000Ki hugepages-2Mi=1048576Ki memory=4194304Ki pods=110"
        );
        assert_eq!(
            told(machine.allocatable()),
            "cpu=2 ephemeral-storage=943718400 hugepages-2Mi=1048576Ki memory=3043328Ki pods=110"
        );
    }

    #[test]
    fn huge_pages_are_told_by_the_size_of_a_page() {
        let temp = tempfile::tempdir().unwrap();
        for (name, count) in [
            ("hugepages-2048kB", "3\n"),
            ("hugepages-1048576kB", "0\n"),
            ("other", "1"),
        ] {
            fs::create_dir(temp.path().join(name)).unwrap();
            fs::write(temp.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        let expected = [("hugepages-1Gi", 0), ("hugepages-2Mi", 6 << 20)];
        assert_eq!(
            huge_pages(temp.path()),
            expected.map(|(name, bytes)| (name.to_owned(), bytes)).into()
        );
    }

    #[test]
    fn the_system_is_called_as_it_calls_itself() {
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
        assert_eq!(os_image(""), "Linux");
    }
}
