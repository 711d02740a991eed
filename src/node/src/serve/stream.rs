//! Commands and ports: the session between a client and the container runtime's streaming server.

use std::{sync::Arc, time::Duration};

use bosun_api::{PodKey, core::Pod};
use bosun_cri::{ErrorKind, Terminal};
use bosun_streaming::{
    command::Streams,
    translate::{self, Plan, Refusal},
    upgrade::{self, DialError, Dialed},
};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Server,
    body::{self, Body, text},
    logs::options::Query,
    pods,
    route::Target,
};

/// For a connection to the runtime's streaming server, which is on this machine.
const CONNECT: Duration = Duration::from_secs(10);
/// A command of `/run`, which answers once it has ended.
const RUN: Duration = Duration::from_mins(4);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Client(#[from] Refusal),
    #[error("{0}")]
    Runtime(#[from] bosun_cri::Error),
    #[error("{1}")]
    Told(StatusCode, String),
    #[error("connecting to the container runtime's streaming server at {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("the container runtime's streaming server: {0}")]
    Dial(#[from] DialError),
}

impl Failure {
    fn answer(&self) -> Response<Body> {
        let code = match self {
            Self::Client(refusal) => refusal.code(),
            Self::Told(code, _) => *code,
            Self::Runtime(error) if error.kind == ErrorKind::NotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        text(code, self.to_string())
    }
}

fn settled(outcome: Result<Response<Body>, Failure>) -> Response<Body> {
    outcome.unwrap_or_else(|failure| failure.answer())
}

fn terminal(streams: Streams) -> Terminal {
    Terminal {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        tty: streams.tty,
    }
}

impl Server {
    fn pod(&self, key: &PodKey) -> Result<Arc<Pod>, Failure> {
        let all = self.agent.pods.all();
        let missing = || Failure::Told(StatusCode::NOT_FOUND, "pod does not exist".to_owned());
        let (pod, _) = pods::find(&all, key).ok_or_else(missing)?;
        Ok(Arc::new(pod.clone()))
    }

    async fn container(&self, target: &Target) -> Result<bosun_api::ContainerId, Failure> {
        let pod = self.pod(&target.pod)?;
        let found = pods::running_container(&*self.agent.runtime, &pod, &target.container).await?;
        // As upstream words it, and as an internal error, since it may come to run yet.
        let missing = || format!("container not found ({:?})", target.container);
        found.ok_or_else(|| Failure::Told(StatusCode::INTERNAL_SERVER_ERROR, missing()))
    }

    /// `/run`: what a command prints, once it has ended.
    pub(super) async fn run(&self, request: &Request<Incoming>, target: &Target) -> Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let command: Vec<String> = query
            .all("cmd")
            .flat_map(|text| text.split_whitespace().map(str::to_owned))
            .collect();
        let work = async {
            let id = self.container(target).await?;
            let output = self.agent.runtime.exec(&id, &command, RUN).await?;
            let printed = [output.stdout, output.stderr].concat();
            if output.exit_code == 0 {
                return Ok(Response::new(body::full(printed)));
            }
            let message = format!(
                "command '{}' exited with {}: {}",
                command.join(" "),
                output.exit_code,
                String::from_utf8_lossy(&printed)
            );
            Err(Failure::Told(StatusCode::INTERNAL_SERVER_ERROR, message))
        };
        settled(work.await)
    }

    /// `/exec`: a command in a container, talked to.
    pub(super) async fn exec(&self, request: Request<Incoming>, target: &Target) -> Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let work = async {
            let streams = translate::streams(|name| query.on(name))?;
            let plan = Plan::of_command(request.headers(), streams)?;
            let command: Vec<String> = query.all("command").map(str::to_owned).collect();
            if command.is_empty() {
                let message = "you must specify a command".to_owned();
                return Err(Failure::Told(StatusCode::BAD_REQUEST, message));
            }
            let id = self.container(target).await?;
            let url = self.agent.runtime.exec_url(&id, &command, &terminal(streams)).await?;
            self.session(request, plan, &url).await
        };
        settled(work.await)
    }

    /// `/attach`: a container's main process, talked to.
    pub(super) async fn attach(&self, request: Request<Incoming>, target: &Target) -> Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let work = async {
            let streams = translate::streams(|name| query.on(name))?;
            let plan = Plan::of_command(request.headers(), streams)?;
            let id = self.container(target).await?;
            let url = self.agent.runtime.attach_url(&id, &terminal(streams)).await?;
            self.session(request, plan, &url).await
        };
        settled(work.await)
    }

    /// `/portForward`: connections into a pod.
    pub(super) async fn port_forward(&self, request: Request<Incoming>, key: &PodKey) -> Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let work = async {
            let ports = query.all("ports").chain(query.all("port"));
            let plan = Plan::of_forward(request.headers(), ports)?;
            let uid = crate::pod::sandbox::pod_uid(&*self.pod(key)?);
            let sandbox = pods::ready_sandbox(&*self.agent.runtime, &uid).await?;
            let missing = || {
                Failure::Told(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("pod {key} has no sandbox yet"),
                )
            };
            let sandbox = sandbox.ok_or_else(missing)?;
            let url = self.agent.runtime.port_forward_url(&sandbox).await?;
            self.session(request, plan, &url).await
        };
        settled(work.await)
    }

    /// Asks the runtime's server for a session, and answers the client accordingly.
    async fn session(&self, request: Request<Incoming>, plan: Plan, url: &str) -> Result<Response<Body>, Failure> {
        let (server, parts) = match dial(url, &plan, request.headers()).await? {
            Dialed::Upgraded(server, parts) => (server, parts),
            Dialed::Refused(response) => {
                let (parts, said) = response.into_parts();
                let mut response = text(parts.status, String::from_utf8_lossy(&said));
                // What isn't an error is none that a client could make sense of.
                if parts.status.as_u16() < 400 {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                return Ok(response);
            }
        };
        let response = plan.answer(request.headers(), &parts)?;
        let place = request.extensions().get::<Arc<OwnedSemaphorePermit>>().cloned();
        let (idle, end) = (self.idle, self.end.clone());
        self.sessions.spawn(async move {
            let _place = place;
            let work = async {
                match hyper::upgrade::on(request).await {
                    Ok(client) => {
                        if let Err(error) = plan.run(TokioIo::new(client), server, idle).await {
                            tracing::debug!(%error, "node API: a session broke off");
                        }
                    }
                    Err(error) => tracing::debug!(%error, "node API: the client left before its session began"),
                }
            };
            tokio::select! {
                () = work => {}
                () = end.cancelled() => {}
            }
        });
        Ok(response.map(|()| body::empty()))
    }
}

async fn dial(url: &str, plan: &Plan, client: &HeaderMap) -> Result<Dialed, Failure> {
    let wrong = || {
        Failure::Told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the container runtime names a streaming server that is not at an http URL".to_owned(),
        )
    };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri
        .authority()
        .filter(|_| uri.scheme_str() == Some("http"))
        .ok_or_else(wrong)?;
    let address = authority.as_str();
    let connecting = timeout(CONNECT, TcpStream::connect(address)).await;
    let stream = connecting
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|error| Failure::Connect(address.to_owned(), error))?;
    stream
        .set_nodelay(true)
        .map_err(|error| Failure::Connect(address.to_owned(), error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path)
        .header(header::HOST, address)
        .body(())
        .map_err(|_| wrong())?;
    plan.ask(client, &mut request);
    Ok(upgrade::dial(stream, request).await?)
}
