//! `grpc.health.v1.Health/Check`.

use std::net::{IpAddr, SocketAddr};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    Code, Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::action::Outcome;

const CHECK: PathAndQuery = PathAndQuery::from_static("/grpc.health.v1.Health/Check");

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    /// An enumeration, whose numbers are all that is asked about.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `ServingStatus` by number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: i32 = 1;

/// Asks whether a service is being served; an empty name asks for the server as a whole.
pub(super) async fn check(address: IpAddr, port: u16, service: &str, agent: &str) -> Outcome {
    let channel = match connect(SocketAddr::new(address, port), agent).await {
        Ok(channel) => channel,
        Err(error) => return Outcome::Failure(format!("connect to {address} port {port}: {}", root(&error))),
    };
    match call(channel, service).await {
        Ok(SERVING) => Outcome::Success("service healthy".to_owned()),
        Ok(status) => {
            let name = usize::try_from(status)
                .ok()
                .and_then(|status| STATUSES.get(status))
                .unwrap_or(&"UNKNOWN");
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Err(status) if status.code() == Code::Unimplemented => Outcome::Failure(
            "this server does not implement the gRPC health protocol (grpc.health.v1.Health)".to_owned(),
        ),
        Err(status) => Outcome::Failure(format!("health call failed: {}: {}", status.code(), status.message())),
    }
}

async fn connect(address: SocketAddr, agent: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .user_agent(agent)?
        .connect_with_connector(service_fn(move |_| async move {
            TcpStream::connect(address).await.map(TokioIo::new)
        }))
        .await
}

async fn call(channel: Channel, service: &str) -> Result<i32, tonic::Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(super::action::MAX_ANSWER);
    client
        .ready()
        .await
        .map_err(|error| tonic::Status::unavailable(root(&error)))?;
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    Ok(client.unary(request, CHECK, codec).await?.into_inner().status)
}

/// The innermost words of an error: `transport error` alone helps nobody.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
