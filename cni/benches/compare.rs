//! ADD and DEL of this plugin against Debian's `containernetworking-plugins` (bridge + host-local + portmap) and against
//! making and deleting a bare veth pair, in fresh namespaces, turn by turn. Needs root; never decides a test.
//!
//! ```text
//! cargo bench -p bosun-cni --bench compare [-- --rounds N] [--plugin PROGRAM] [--reference DIR]
//! ```
//! Prints one JSON line a measure, then a table. `--plugin` is the program to measure; without it, the one cargo built
//! for benches, which is not static: `hack/bench` gives the shipped one.

#![allow(clippy::unwrap_used, reason = "a benchmark ends at what it did not expect")]

#[path = "../../src/net/tests/netns/world.rs"]
mod world;

use std::{
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use bosun_net::{
    Attachment,
    link::{self, Mac, Veth},
    names,
    socket::Socket,
    wire,
};
use serde_json::{Value, json};
use world::Namespace;

/// One measure: what, and how long each round took.
struct Measure {
    name: &'static str,
    took: Vec<Duration>,
}

impl Measure {
    fn quantile(&self, part: usize, of: usize) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort();
        let at = (sorted.len() * part / of).min(sorted.len() - 1);
        sorted[at].as_secs_f64() * 1e3
    }

    fn median(&self) -> f64 {
        self.quantile(1, 2)
    }
}

struct Options {
    rounds: usize,
    plugin: PathBuf,
    reference: PathBuf,
}

fn options() -> Options {
    let mut options = Options {
        rounds: 40,
        plugin: env!("CARGO_BIN_EXE_bosun-cni").into(),
        reference: "/usr/lib/cni".into(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--rounds" => options.rounds = value().parse().expect("--rounds is a number"),
            "--plugin" => options.plugin = value().into(),
            "--reference" => options.reference = value().into(),
            // Cargo's own.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    assert!(options.rounds > 0, "--rounds is at least 1");
    options
}

/// A plugin's call, as a runtime makes it; gives its answer and adds to the time taken.
fn call(node: &Namespace, program: &Path, verb: &str, pod: &Namespace, config: &Value, took: &mut Duration) -> Value {
    #[allow(clippy::disallowed_methods, reason = "plugins are programs")]
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", "bench")
        .env("CNI_IFNAME", "eth0");
    command
        .env("CNI_NETNS", pod.path())
        .env("CNI_PATH", program.parent().unwrap())
        .env("PATH", "/usr/sbin:/usr/bin");
    let config = config.to_string();
    let (output, spent) = node.run(|| {
        let start = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        // A program that does nothing does not read either.
        let _ = child.stdin.take().unwrap().write_all(config.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output, start.elapsed())
    });
    *took += spent;
    assert!(
        output.status.success(),
        "{verb} {}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stdout)
    );
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn main() {
    let options = options();
    // Each keeps its addresses where it does on users' machines: host-local on disk, ours in memory (`/run`, which need
    // not be a tmpfs on a machine for tests).
    let dir = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load_before = load();

    let ours_config = |ranges: Value| {
        json!({
            "cniVersion": "1.0.0", "name": "bench", "type": "bosun-cni", "runDir": memory.path().join("run"),
            "ranges": ranges,
        })
    };
    // As plain as it can be had: no masquerading, no port to map. Then as containerd's own instructions have it.
    let bridge = json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "bench0", "isGateway": true,
        "ipam": {
            "type": "host-local", "dataDir": dir.path().join("host-local"),
            "ranges": [[{ "subnet": "10.98.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let mut masquerading = bridge.clone();
    masquerading["ipMasq"] = true.into();
    masquerading["promiscMode"] = true.into();
    masquerading["bridge"] = "bench1".into();
    let portmap = json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "portmap", "capabilities": { "portMappings": true },
    });

    let names = [
        "bosun ADD",
        "bosun DEL",
        "bosun ADD, dual-stack",
        "bosun DEL, dual-stack",
        "reference ADD",
        "reference DEL",
        "bare veth, make",
        "bare veth, delete",
        "a program that does nothing",
        "bosun DEL, nothing left to delete",
        "bosun's wire, deleted in process",
        "reference ADD, masquerading",
        "reference DEL, masquerading",
    ];
    let mut measures = names.map(|name| Measure { name, took: Vec::new() });
    let (ours, ours_dual, theirs, bare) = (
        Namespace::node(),
        Namespace::node(),
        Namespace::node(),
        Namespace::node(),
    );
    let with_iptables = Path::new("/usr/sbin/iptables").exists();
    let with_reference = options.reference.join("bridge").exists();
    // A namespace's end, which the kernel sees to in the background under its lock for links, is not what is measured.
    let mut kept = Vec::new();
    for round in 0..options.rounds + 2 {
        let mut took = [Duration::ZERO; 13];
        let pods = || Rc::new(Namespace::new());

        let pod = pods();
        kept.push(Rc::clone(&pod));
        let config = ours_config(json!(["10.97.0.0/24"]));
        call(&ours, &options.plugin, "ADD", &pod, &config, &mut took[0]);
        call(&ours, &options.plugin, "DEL", &pod, &config, &mut took[1]);

        let pod = pods();
        kept.push(Rc::clone(&pod));
        let config = ours_config(json!(["10.96.0.0/24", "fd96::/64"]));
        call(&ours_dual, &options.plugin, "ADD", &pod, &config, &mut took[2]);
        call(&ours_dual, &options.plugin, "DEL", &pod, &config, &mut took[3]);

        call(&ours, &options.plugin, "DEL", &pod, &config, &mut took[9]);

        let pod = pods();
        kept.push(Rc::clone(&pod));
        call(
            &ours,
            &options.plugin,
            "ADD",
            &pod,
            &config,
            &mut Duration::ZERO.clone(),
        );
        took[10] = ours.run(|| {
            let attachment = Attachment {
                container: "bench".into(),
                ifname: "eth0".into(),
            };
            let mut socket = Socket::open(world::PATIENCE).unwrap();
            let start = Instant::now();
            wire::disconnect(&mut socket, &names::host_link("bench", &attachment)).unwrap();
            start.elapsed()
        });
        call(
            &ours,
            &options.plugin,
            "DEL",
            &pod,
            &config,
            &mut Duration::ZERO.clone(),
        );

        for (config, add, del, possible) in [
            (&bridge, 4, 5, with_reference),
            (&masquerading, 11, 12, with_reference && with_iptables),
        ] {
            if !possible {
                continue;
            }
            let pod = pods();
            kept.push(Rc::clone(&pod));
            let program = |name: &str| options.reference.join(name);
            let first = call(&theirs, &program("bridge"), "ADD", &pod, config, &mut took[add]);
            let mut second = portmap.clone();
            second["prevResult"] = first;
            let result = call(&theirs, &program("portmap"), "ADD", &pod, &second, &mut took[add]);
            second["prevResult"] = result.clone();
            call(&theirs, &program("portmap"), "DEL", &pod, &second, &mut took[del]);
            let mut first = config.clone();
            first["prevResult"] = result;
            call(&theirs, &program("bridge"), "DEL", &pod, &first, &mut took[del]);
        }

        let pod = pods();
        kept.push(Rc::clone(&pod));
        let (made, deleted) = bare_veth(&bare, &pod);
        took[6] = made;
        took[7] = deleted;

        call(
            &ours,
            Path::new("/bin/true"),
            "NOTHING",
            &pod,
            &Value::Null,
            &mut took[8],
        );

        // The first rounds warm caches up, and make the reference's bridge.
        if round >= 2 {
            for (measure, took) in measures.iter_mut().zip(took) {
                measure.took.push(took);
            }
        }
    }

    for measure in &measures {
        println!(
            "{}",
            json!({
                "measure": measure.name, "rounds": measure.took.len(), "median_ms": measure.median(),
                "p90_ms": measure.quantile(9, 10), "min_ms": measure.quantile(0, 1),
            })
        );
    }
    let median = |index: usize| measures[index].median();
    let ratios = json!({
        "measure": "ratios",
        "add_reference_over_bosun": median(4) / median(0),
        "add_masquerading_reference_over_bosun": median(11) / median(0),
        "del_bosun_beyond_the_kernels_ms": median(9),
        "del_bosun_beyond_bare_ms": median(1) - median(7),
        "del_reference_beyond_bare_ms": median(5) - median(7),
        "load_before": load_before.trim(), "load_after": load().trim(),
    });
    println!("{ratios}");

    println!("\n{:<34} {:>10} {:>10} {:>10}", "milliseconds", "median", "p90", "min");
    for measure in &measures {
        let (median, p90, min) = (measure.median(), measure.quantile(9, 10), measure.quantile(0, 1));
        println!("{:<34} {median:>10.2} {p90:>10.2} {min:>10.2}", measure.name);
    }
    if with_reference {
        println!(
            "\nADD: {:.1} times as fast as the reference plugins",
            median(4) / median(0)
        );
    } else {
        println!(
            "\nno reference plugins in {}: apt-get install containernetworking-plugins",
            options.reference.display()
        );
    }
    println!(
        "DEL: {:.2} ms beyond deleting a bare veth pair; {:.2} ms of it are not the kernel's waiting, which varies by its \
         clock's tick from one to the next",
        median(1) - median(7),
        median(9)
    );
    println!("load: {}", load().trim());
}

/// What no plugin can do without: a pair, and its end.
fn bare_veth(node: &Namespace, pod: &Namespace) -> (Duration, Duration) {
    let netns = pod.open();
    let make = link::veth(&Veth {
        name: "bench",
        mac: Mac([2, 0, 0, 0, 3, 1]),
        peer_name: "eth0",
        peer_mac: Mac([2, 0, 0, 0, 3, 2]),
        peer_netns: netns.as_raw_fd(),
        mtu: 1500,
    });
    node.run(|| {
        let mut socket = Socket::open(world::PATIENCE).unwrap();
        let start = Instant::now();
        socket.perform(&[make]).unwrap();
        let made = start.elapsed();
        let index = wire::find(&mut socket, "bench").unwrap().unwrap().index;
        socket.perform(&[link::up(index)]).unwrap();
        let start = Instant::now();
        socket.perform(&[link::delete("bench")]).unwrap();
        (made, start.elapsed())
    })
}
