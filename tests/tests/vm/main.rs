//! The product on whole machines: Debian with systemd and cgroup v2, in software emulation.

mod machine;

use anyhow::{Result, ensure};
use machine::Machine;

#[test]
fn standin() -> Result<()> {
    let payload = tempfile::tempdir()?;
    std::fs::write(payload.path().join("hello"), "hello")?;
    let start = std::time::Instant::now();
    let mut machine = Machine::boot(&std::env::var("REL").unwrap_or("bookworm".into()), payload.path())?;
    eprintln!("{:?}", start.elapsed());
    ensure!(machine.run("cat /mnt/hello")? == "hello");
    eprintln!(
        "{}",
        machine.run("uname -a; stat -fc %T /sys/fs/cgroup; containerd --version; systemctl --failed")?
    );
    assert!(machine.run("echo hi; false").is_err());
    machine.reboot()?;
    eprintln!("{:?}", start.elapsed());
    eprintln!("{}", machine.describe(&["uptime"]));
    Ok(())
}
