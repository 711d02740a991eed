//! The agent's side of the network, without blocking: through rtnetlink, on the one socket of [`NodeNet`].

use std::{io, net::IpAddr, path::Path, time::Duration};

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::Handle;
use tokio::{
    task::{JoinError, JoinSet, spawn_blocking},
    time::timeout,
};

use crate::{
    cidr::{Cidr, Family},
    ipam::{self, Ipam, Record},
    link,
    message::{Request, describe},
    netns, route,
    sweep::{self, Observed, SweepPlan},
    sysctl, underlay,
    wire::{told_link, told_route},
};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket could be had.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The socket's task is gone.
    #[error("cannot {doing}: the netlink socket is closed")]
    Closed {
        /// What was to be done.
        doing: String,
        /// Why.
        source: rtnetlink::Error,
    },
    /// The kernel refused.
    #[error("cannot {doing}")]
    Refused {
        /// What was to be done.
        doing: String,
        /// The error number.
        source: io::Error,
    },
    /// No answer came in time; trying again can help.
    #[error("cannot {doing}: no answer within {after:?}")]
    Silent {
        /// What was to be done.
        doing: String,
        /// How long was waited.
        after: Duration,
    },
    /// The records of addresses.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// Work on files was broken off.
    #[error("the work on address records broke off")]
    Broken(#[source] JoinError),
}

/// How long the kernel may take; deleting many links at once takes it longest.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The network of the node this agent runs on.
pub struct NodeNet {
    handle: Handle,
    /// The task that drives the socket; it ends with this.
    _driver: JoinSet<()>,
}

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Routes' destinations.
    pub routes: Vec<Cidr>,
    /// Links' names.
    pub links: Vec<String>,
    /// Addresses that may be given out again.
    pub addresses: Vec<IpAddr>,
}

impl NodeNet {
    /// Opens the socket, in the namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self {
            handle,
            _driver: driver,
        })
    }

    /// Makes the node ready to carry packets of pods: its loopback up, forwarding on for these ranges. What is as it
    /// shall be is left alone.
    pub async fn prepare(&self, ranges: &[Cidr]) -> Result<(), Error> {
        let told = self.perform(&link::get_by_index(link::LOOPBACK)).await?;
        if !told.iter().find_map(told_link).is_some_and(|lo| lo.up) {
            self.perform(&link::up(link::LOOPBACK)).await?;
        }
        for range in ranges {
            sysctl::enable_forwarding(range.family())?;
        }
        Ok(())
    }

    /// The MTU of the link by which the node reaches the world.
    pub async fn underlay_mtu(&self) -> Result<u32, Error> {
        for family in [Family::V4, Family::V6] {
            let route = underlay::told(&self.perform(&underlay::lookup(family)).await?);
            if let Some(index) = route.and_then(|route| route.link)
                && let Some(mtu) = underlay::told_mtu(&self.perform(&link::get_by_index(index)).await?)
            {
                return Ok(mtu);
            }
        }
        Ok(underlay::ETHERNET_MTU)
    }

    /// Removes what killed processes left of pods of this network that are no more. Pods that run, and plugins at work,
    /// are undisturbed.
    pub async fn sweep(&self, run_dir: &Path, network: &str) -> Result<Swept, Error> {
        let observed = self.observe(run_dir, network).await?;
        self.apply(run_dir, network, sweep::plan(network, &observed)).await
    }

    /// Gathers what there is, in the order [`Observed`] asks for.
    pub async fn observe(&self, run_dir: &Path, network: &str) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        for family in [Family::V4, Family::V6] {
            observed
                .routes
                .extend(self.perform(&route::dump(family)).await?.iter().filter_map(told_route));
        }
        observed.links = self
            .perform(&link::dump())
            .await?
            .iter()
            .filter_map(told_link)
            .collect();
        let ipam = Ipam::new(run_dir, network);
        observed.records = blocking("read address records", move || {
            let records = ipam.list()?.records.into_iter();
            let presence = |record: &Record| netns::presence(&record.netns, record.inode);
            Ok(records
                .map(|(address, record)| (address, record.clone(), presence(&record)))
                .collect())
        })
        .await?;
        Ok(observed)
    }

    async fn apply(&self, run_dir: &Path, network: &str, plan: SweepPlan) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        for route in plan.routes {
            self.perform(&route::delete(&route)).await?;
            swept.routes.push(route.destination);
        }
        for name in plan.links {
            self.perform(&link::delete(&name)).await?;
            swept.links.push(name);
        }
        let ipam = Ipam::new(run_dir, network);
        let dead: Vec<Record> = plan.records.into_iter().map(|(_, record)| record).collect();
        swept.addresses = blocking("remove address records", move || {
            let freed = ipam.collect(&mut |record| !dead.contains(record))?;
            // A plugin may be at work: only what is old.
            ipam.collect_strays(&|_| false, std::time::SystemTime::now())?;
            Ok(freed)
        })
        .await?;
        Ok(swept)
    }

    /// Performs one request and gives what the kernel told.
    pub async fn perform(&self, request: &Request) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let doing = || describe(request);
        let mut header = NetlinkHeader::default();
        header.flags = request.flags | if request.is_dump() { 0 } else { NLM_F_ACK };
        let message = NetlinkMessage::new(header, request.message.clone().into());
        let exchange = async {
            let mut answers = self
                .handle
                .clone()
                .request(message)
                .map_err(|source| Error::Closed { doing: doing(), source })?;
            let mut told = Vec::new();
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => told.push(message),
                    NetlinkPayload::Error(error) => {
                        let errno = error.raw_code().saturating_abs();
                        if errno != 0 && !request.accepted.contains(&errno) {
                            return Err(Error::Refused {
                                doing: doing(),
                                source: error.to_io(),
                            });
                        }
                    }
                    _ => {}
                }
            }
            Ok(told)
        };
        timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| {
            Err(Error::Silent {
                doing: doing(),
                after: TIMEOUT,
            })
        })
    }
}

async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, ipam::Error> + Send + 'static,
) -> Result<T, Error> {
    match timeout(TIMEOUT, spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done?),
        Ok(Err(broken)) => Err(Error::Broken(broken)),
        Err(_) => Err(Error::Silent {
            doing: doing.to_owned(),
            after: TIMEOUT,
        }),
    }
}
