//! The verbs, on the machine.

use std::{
    collections::HashSet,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use bosun_net::{
    Attachment,
    config::NetworkConfig,
    ipam::{self, Ipam, Pool, Record},
    link::Link,
    names::{self, Alias},
    netns::{self, Netns, Presence},
    socket::Socket,
    sysctl, underlay,
    wire::{self, TIMEOUT},
};

use crate::{
    answer::{self, CniError, Code, Output},
    call::{Add, Call, Verb},
    loopback, plan,
};

/// Does what is asked.
pub fn perform(call: &Call) -> Result<Output, CniError> {
    if call.loopback {
        return loopback::perform(call);
    }
    match &call.verb {
        Verb::Add(add) => self::add(call, add),
        Verb::Del {
            network,
            run_dir,
            attachment,
        } => del(network, run_dir, attachment),
        Verb::Check {
            config,
            attachment,
            netns,
            previous,
        } => check(config, attachment, netns, previous),
        Verb::Status(config) => status(config),
        Verb::Gc {
            network,
            run_dir,
            valid,
        } => gc(network, run_dir, valid),
        Verb::Version => Ok(Output::success(answer::versions(&call.version_text))),
    }
}

fn io(error: &dyn std::error::Error) -> CniError {
    CniError::from_error(Code::Io, error)
}

fn open_node() -> Result<Socket, CniError> {
    Socket::open(TIMEOUT).map_err(|e| io(&e))
}

/// Opens a pod's namespace. None there means there is no such container any more.
pub(crate) fn open_netns(path: &Path) -> Result<Netns, CniError> {
    Netns::open(path).map_err(|e| {
        let code = match e {
            netns::Error::Missing { .. } => Code::UnknownContainer,
            netns::Error::NotANamespace { .. } => Code::InvalidEnvironment,
            netns::Error::Io { .. } => Code::Io,
        };
        CniError::from_error(code, &e)
    })
}

fn pools(config: &NetworkConfig) -> Result<Vec<Pool>, CniError> {
    config
        .pools()
        .map_err(|e| CniError::from_error(Code::InvalidConfig, &e))
}

fn add(call: &Call, add: &Add) -> Result<Output, CniError> {
    let Add { config, attachment, .. } = add;
    let pools = pools(config)?;
    let netns = open_netns(Path::new(&add.netns))?;
    if Netns::current().map_err(|e| io(&e))?.inode() == netns.inode() {
        let message = format!(
            "CNI_NETNS {} is the node's own network namespace, not a pod's",
            add.netns
        );
        return Err(CniError::new(Code::InvalidEnvironment, message));
    }
    let mut node = open_node()?;
    for pool in &pools {
        sysctl::enable_forwarding(pool.family()).map_err(|e| io(&e))?;
    }
    let mtu = match config.mtu {
        0 => underlay::mtu(&mut node).map_err(|e| io(&e))?,
        mtu => mtu,
    };

    let ipam = Ipam::new(&config.run_dir, &config.name);
    let record = Record {
        attachment: attachment.clone(),
        netns: add.netns.clone().into(),
        inode: netns.inode(),
        pod: add.pod.clone(),
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    };
    let made = ipam
        .allocate(&record, &pools, &mut |holder| {
            clear_if_gone(&mut node, &config.name, holder)
        })
        .map_err(|e| {
            let code = match e {
                ipam::Error::Exhausted { .. } | ipam::Error::Concurrent(_) => Code::TryAgain,
                ipam::Error::Io { .. } => Code::Io,
            };
            CniError::from_error(code, &e)
        })
        .and_then(|addresses| {
            let wire = plan::wire(&config.name, attachment, add.pod.clone(), &pools, &addresses, mtu);
            wire::connect(&mut node, &netns, &wire).map_err(|e| {
                let code = match e {
                    wire::Error::Taken { .. } => Code::InvalidEnvironment,
                    _ => Code::Io,
                };
                CniError::from_error(code, &e)
            })?;
            Ok(wire)
        });
    match made {
        Ok(wire) => {
            let outcome = plan::Outcome {
                wire: &wire,
                netns: &add.netns,
            };
            Ok(Output::success(answer::added(call.version, &outcome)))
        }
        Err(error) => {
            // The first error is the one to tell; what this can't take back, DEL will.
            let _ = ipam.release(attachment);
            Err(error)
        }
    }
}

/// Whether the holder of an address is no more. What may be left of its wire (a process can keep a namespace that has
/// no name) is removed before the address goes to another.
fn clear_if_gone(node: &mut Socket, network: &str, holder: &Record) -> bool {
    let host_link = names::host_link(network, &holder.attachment);
    match netns::presence(&holder.netns, holder.inode) {
        Presence::There => false,
        Presence::Gone => wire::disconnect(node, &host_link).is_ok(),
        // The kernel removes a wire with its namespace.
        Presence::Unmounted => wire::find(node, &host_link).is_ok_and(|link| link.is_none()),
    }
}

/// The link before the address: no one gets an address a route still leads elsewhere.
fn del(network: &str, run_dir: &Path, attachment: &Attachment) -> Result<Output, CniError> {
    wire::disconnect(&mut open_node()?, &names::host_link(network, attachment)).map_err(|e| io(&e))?;
    Ipam::new(run_dir, network).release(attachment).map_err(|e| io(&e))?;
    Ok(Output::nothing())
}

fn check(
    config: &NetworkConfig,
    attachment: &Attachment,
    path: &Path,
    previous: &serde_json::Value,
) -> Result<Output, CniError> {
    let host_link = names::host_link(&config.name, attachment);
    let promise = plan::promise(previous, &host_link, &attachment.ifname)?;
    let changed = |message: String| Err(CniError::new(Code::Changed, message));
    let held = Ipam::new(&config.run_dir, &config.name)
        .find(attachment)
        .map_err(|e| io(&e))?;
    if let Some(lost) = promise.addresses.iter().find(|address| !held.contains(address)) {
        return changed(format!("address {lost} is not recorded for {attachment}"));
    }
    let netns = open_netns(path)?;
    let observed = wire::observe(
        &mut open_node()?,
        &netns,
        &host_link,
        &attachment.ifname,
        &promise.addresses,
    )
    .map_err(|e| io(&e))?;
    match wire::verify(
        &host_link,
        &attachment.ifname,
        promise.mac,
        &promise.addresses,
        &observed,
    ) {
        Ok(()) => Ok(Output::nothing()),
        Err(fault) => changed(fault.to_string()),
    }
}

fn status(config: &NetworkConfig) -> Result<Output, CniError> {
    let unavailable = |error: &dyn std::error::Error| CniError::from_error(Code::NotAvailable, error);
    open_node().map_err(|e| unavailable(&e))?;
    let ipam = Ipam::new(&config.run_dir, &config.name);
    ipam.create_dirs().map_err(|e| unavailable(&e))?;
    for pool in pools(config)? {
        if ipam.count(&pool).map_err(|e| unavailable(&e))? < pool.usable() {
            continue;
        }
        let listing = ipam.list().map_err(|e| unavailable(&e))?;
        let gone = |(address, record): &(std::net::IpAddr, Record)| {
            pool.contains(*address) && netns::presence(&record.netns, record.inode) == Presence::Gone
        };
        if !listing.records.iter().any(gone) {
            let message = format!("every address of {} is held by a pod", pool.range());
            return Err(CniError::new(Code::NotAvailable, message));
        }
    }
    Ok(Output::nothing())
}

/// Goes on after a failure, and tells the first.
fn gc(network: &str, run_dir: &Path, valid: &[Attachment]) -> Result<Output, CniError> {
    let valid: HashSet<&Attachment> = valid.iter().collect();
    let mut failed = None;
    let mut node = open_node()?;
    for link in bosun_links(&mut node)? {
        let Some(alias) = link.alias.as_deref().and_then(Alias::parse) else {
            continue;
        };
        if alias.network == network && !valid.contains(&alias.attachment) {
            failed = failed.or(wire::disconnect(&mut node, &link.name).map_err(|e| io(&e)).err());
        }
    }
    let ipam = Ipam::new(run_dir, network);
    let collected = ipam.collect(&mut |record| valid.contains(&record.attachment));
    failed = failed.or(collected.map_err(|e| io(&e)).err());
    // A runtime asks for no ADD while it asks for a GC.
    let strays = ipam.collect_strays(&|owner| !valid.contains(owner), SystemTime::now());
    failed = failed.or(strays.map_err(|e| io(&e)).err());
    failed.map_or_else(|| Ok(Output::nothing()), Err)
}

fn bosun_links(node: &mut Socket) -> Result<Vec<Link>, CniError> {
    let mut links = wire::links(node).map_err(|e| io(&e))?;
    links.retain(|link| link.name.starts_with(names::HOST_LINK_PREFIX));
    Ok(links)
}
