//! The machine's consumption, from the kernel's tables (proc(5)). Pure but for [`bytes_below`].

use std::{fs, path::Path};

use jiff::Timestamp;

/// The unit of `/proc/stat`'s times (`USER_HZ`), the same on all architectures we run on, in nanoseconds.
const TICK: u64 = 10_000_000;

/// The machine's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub capacity: u64,
    /// In use, caches included.
    pub usage: u64,
    /// What can't be taken back without harm.
    pub working_set: u64,
    /// Of processes, without files.
    pub rss: u64,
    /// Since the start.
    pub page_faults: u64,
    /// Those that had to wait for a disk.
    pub major_page_faults: u64,
}

impl Memory {
    /// From `/proc/meminfo` and `/proc/vmstat`. What they don't tell is 0.
    pub fn parse(meminfo: &str, vmstat: &str) -> Self {
        let kilobytes = |name: &str| number_after(meminfo, name) * 1024;
        let capacity = kilobytes("MemTotal:");
        let usage = capacity.saturating_sub(kilobytes("MemFree:"));
        Self {
            capacity,
            usage,
            working_set: usage.saturating_sub(kilobytes("Inactive(file):")),
            rss: kilobytes("AnonPages:"),
            page_faults: number_after(vmstat, "pgfault"),
            major_page_faults: number_after(vmstat, "pgmajfault"),
        }
    }
}

/// What passed over a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The link's name.
    pub name: String,
    /// Bytes that came.
    pub rx_bytes: u64,
    /// Receptions that failed.
    pub rx_errors: u64,
    /// Bytes that went.
    pub tx_bytes: u64,
    /// Transmissions that failed.
    pub tx_errors: u64,
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next())?
    });
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Processor time used since the start, from `/proc/stat`, in nanoseconds: all but idleness and waiting for disks.
/// Guests' time is in that of the user.
pub fn cpu(stat: &str) -> u64 {
    let line = stat.lines().find(|line| line.starts_with("cpu ")).unwrap_or_default();
    let times: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|time| time.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
    let busy = [0, 1, 2, 5, 6].map(|index| times.get(index).copied().unwrap_or(0));
    busy.iter().sum::<u64>().saturating_mul(TICK)
}

/// When the machine was started, from `/proc/stat`.
pub fn booted_at(stat: &str) -> Option<Timestamp> {
    let seconds = i64::try_from(number_after(stat, "btime")).ok()?;
    Timestamp::from_second(seconds).ok().filter(|_| seconds > 0)
}

/// Processes there are (from `/proc/loadavg`), and may be (`/proc/sys/kernel/pid_max`).
pub fn processes(loadavg: &str, pid_max: &str) -> (u64, u64) {
    let now = loadavg
        .split_whitespace()
        .nth(3)
        .and_then(|tasks| tasks.split_once('/'));
    let now = now.and_then(|(_, all)| all.parse().ok()).unwrap_or(0);
    (now, pid_max.trim().parse().unwrap_or(0))
}

/// The links of `/proc/net/dev` but the loopback and pods' wires; the one with the default route of `/proc/net/route`
/// first.
pub fn network(dev: &str, route: &str) -> Vec<Network> {
    let default = route.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000")).then(|| words[0])
    });
    let links = dev.lines().skip(2).filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        Some(Network {
            name: name.trim().to_owned(),
            rx_bytes: at(0),
            rx_errors: at(2),
            tx_bytes: at(8),
            tx_errors: at(10),
        })
    });
    let ours = |name: &str| name == "lo" || name.starts_with("bos");
    let mut links: Vec<Network> = links.filter(|link| !ours(&link.name)).collect();
    links.sort_by_key(|link| Some(&*link.name) != default);
    links
}

/// The bytes of the files in a directory; 0 if there is none.
pub fn bytes_below(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_can_be_had_back_is_no_working_set() {
        let meminfo = "MemTotal: 1000 kB\nMemFree: 200 kB\nInactive(file): 300 kB\nAnonPages: 250 kB\n";
        assert_eq!(
            Memory::parse(meminfo, "pgpgin 1\npgfault 7\npgmajfault 2\n"),
            Memory {
                capacity: 1000 << 10,
                usage: 800 << 10,
                working_set: 500 << 10,
                rss: 250 << 10,
                page_faults: 7,
                major_page_faults: 2,
            }
        );
        assert_eq!(Memory::parse("", ""), Memory::default());
    }

    #[test]
    fn processor_time_is_what_was_not_idle() {
        let stat = "cpu  100 10 50 9000 70 3 2 400 0 0\ncpu0 1 1 1 1\nbtime 1700000000\n";
        assert_eq!(cpu(stat), 165 * TICK);
        assert_eq!(booted_at(stat), Timestamp::from_second(1_700_000_000).ok());
        assert_eq!((cpu(""), booted_at("")), (0, None));
    }

    #[test]
    fn the_link_to_the_world_comes_first_and_those_of_pods_not_at_all() {
        let dev = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                   docker0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\nbosabc: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                   eth0: 10 1 2 0 0 0 0 0 20 1 3 0 0 0 0 0\n";
        let route = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n\
                     eth0 0000FEA9 00000000 0001 0 0 0 0000FFFF\neth0 00000000 0101A8C0 0003 0 0 0 00000000\n";
        let found = network(dev, route);
        assert_eq!(
            found[0],
            Network {
                name: "eth0".into(),
                rx_bytes: 10,
                rx_errors: 2,
                tx_bytes: 20,
                tx_errors: 3
            }
        );
        assert_eq!(
            found.iter().map(|link| &*link.name).collect::<Vec<_>>(),
            ["eth0", "docker0"]
        );
        assert_eq!(network("", ""), []);
    }

    #[test]
    fn processes_are_counted_against_what_there_may_be() {
        assert_eq!(processes("0.1 0.2 0.3 2/345 678\n", "32768\n"), (345, 32768));
        assert_eq!(processes("", ""), (0, 0));
    }
}
