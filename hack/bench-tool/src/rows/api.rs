//! The API server: `bosun server` on a store of its own, and etcd beside it.

mod creates;
mod leases;
mod pods;
mod server;
mod watches;

use bytes::Bytes;
use serde_json::{Value, json};

pub(super) use self::{creates::take as creates, leases::take as leases, pods::take as pods, watches::take as watches};

/// A namespace of the row's own.
const NAMESPACE: &str = "bench";

fn body(object: &Value) -> Bytes {
    Bytes::from(object.to_string())
}

/// Makes the row's namespace.
async fn make_namespace(client: &mut crate::api::Client) -> anyhow::Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    let made = client.expect(http::Method::POST, "/api/v1/namespaces", body(&namespace));
    made.await.map(drop)
}
