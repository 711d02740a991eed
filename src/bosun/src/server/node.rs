//! The node agent in the server's own process: it speaks to the router without a socket, as the user every node is.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use bosun_apiserver::http::Router;
use bosun_node::{agent::Membership, config::AgentConfig};
use bosun_pki::{Keeper, authority::Template, keeper::certified};
use jiff::Timestamp;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::task::JoinSet;

use super::within;

/// How often the node's serving certificate is made anew; it holds for far longer.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The certificate of the node's API: signed at once, by the authority that is in the same process.
#[derive(Debug)]
struct Serving(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Runs this machine's node in `tasks`.
pub(super) fn start(
    config: AgentConfig,
    router: &Router,
    keeper: &Arc<Keeper>,
    addresses: &[IpAddr],
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let user = format!("system:node:{}", config.node_name);
    let own = addresses.iter().chain(&config.node_addresses).map(IpAddr::to_string);
    let names: Vec<String> = std::iter::once(config.node_name.clone()).chain(own).collect();
    let issue = {
        let (keeper, user) = (keeper.clone(), user.clone());
        move || {
            let template = Template {
                organizations: vec!["system:nodes".to_owned()],
                ..Template::server(&user, &names)
            };
            certified(&keeper.authority().issue(&template, Timestamp::now()))
        }
    };
    let serving = Arc::new(Serving(ArcSwap::from_pointee(issue())));
    let membership = Membership {
        client: within::client(router, &user),
        serving: serving.clone(),
        authorities: vec![keeper.authority().certificate.clone()],
    };
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(RENEWAL).await;
            serving.0.store(Arc::new(issue()));
        }
    });
    tasks.spawn(async move {
        let ended = bosun_node::agent::run(config, Some(membership), || {}).await;
        ended.context("this machine's node ended")
    });
}
