//! One GET request, with upstream's ways: no certificate is verified, redirects on the same host are followed.

mod tls;
mod url;

use std::{fmt, time::Duration};

use bosun_api::core::HTTPHeader;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT},
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use self::url::Url;
use super::{action::MAX_ANSWER, dial};

const MAX_REDIRECTS: usize = 10;
/// Heads of answers are no longer than this.
const MAX_HEAD: usize = 64 << 10;
/// How long a server that was told to close gets to do so.
const CLOSING: Duration = Duration::from_millis(20);

/// A request to be made any number of times.
#[derive(Clone, Debug)]
pub struct Request {
    url: Url,
    headers: HeaderMap,
}

/// What came back in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A redirect's only if it leads to another host, or nowhere.
    pub status: u16,
    /// No more of it than [`MAX_ANSWER`].
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// No connection.
    Dial(dial::Error),
    /// No TLS on the connection.
    Tls(Url, std::io::Error),
    /// No HTTP on the connection.
    Http(Url, hyper::Error),
    /// A redirect to something that can't be requested.
    Redirect(Url, String),
    /// One redirect after the other.
    Redirects(Url),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Tls(url, error) => write!(f, "GET {url}: TLS: {error}"),
            Self::Http(url, error) => {
                write!(f, "GET {url}: {error}")?;
                let mut error: &dyn std::error::Error = error;
                while let Some(source) = error.source() {
                    write!(f, ": {source}")?;
                    error = source;
                }
                Ok(())
            }
            Self::Redirect(url, location) => {
                write!(f, "GET {url}: redirected to {location:?}, which is no HTTP address")
            }
            Self::Redirects(url) => write!(f, "GET {url}: stopped after {MAX_REDIRECTS} redirects"),
        }
    }
}

// The message of a probe is one line: `Display` says it all, so there is no source.
impl std::error::Error for Error {}

impl Request {
    /// A GET of `path`, which may carry a query. `User-Agent` and `Accept` may be replaced, or, given empty, left out.
    pub fn new(https: bool, host: &str, port: u16, path: &str, headers: &[HTTPHeader]) -> Result<Self, String> {
        let url = Url::new(https, host, port, path);
        let mut map = HeaderMap::new();
        for header in headers {
            let name = HeaderName::try_from(&header.name).map_err(|_| format!("{:?} is not a header", header.name))?;
            let value = HeaderValue::try_from(&header.value);
            map.append(
                name,
                value.map_err(|_| format!("{:?} is not the value of a header", header.value))?,
            );
        }
        Ok(Self { url, headers: map })
    }

    /// The request's head to `url`, which may be another than the first by now.
    fn head(&self, url: &Url, agent: &str, own_host: bool) -> http::Request<Empty<Bytes>> {
        let mut request = http::Request::new(Empty::new());
        *request.uri_mut() = url.request_target();
        let headers = request.headers_mut();
        let host = self.headers.get(HOST).filter(|_| own_host).cloned();
        let host = host.or_else(|| HeaderValue::try_from(url.authority()).ok());
        headers.extend(host.map(|host| (HOST, host)));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        for (name, default) in [(USER_AGENT, agent), (ACCEPT, "*/*")] {
            if !self.headers.contains_key(&name)
                && let Ok(value) = HeaderValue::from_str(default)
            {
                headers.insert(name, value);
            }
        }
        for (name, value) in &self.headers {
            let left_out = (name == USER_AGENT || name == ACCEPT) && value.is_empty();
            if name != HOST && !left_out {
                headers.append(name, value.clone());
            }
        }
        request
    }
}

/// Makes the request, following redirects as long as they stay on the host. The caller keeps the time.
pub async fn get(request: &Request, agent: &str) -> Result<Answer, Error> {
    let mut url = request.url.clone();
    let mut own_host = true;
    for _ in 0..=MAX_REDIRECTS {
        let (answer, location) = get_once(&url, request.head(&url, agent, own_host)).await?;
        let Some(location) = location else { return Ok(answer) };
        let Some(next) = url.join(&location) else {
            return Err(Error::Redirect(url, location));
        };
        if !next.same_host(&url) {
            return Ok(answer);
        }
        // A Host header of one's own goes with the address it was given for.
        own_host &= url::is_relative(&location);
        url = next;
    }
    Err(Error::Redirects(url))
}

async fn get_once(url: &Url, request: http::Request<Empty<Bytes>>) -> Result<(Answer, Option<String>), Error> {
    let stream = dial::connect(url.host(), url.port()).await.map_err(Error::Dial)?;
    // However this ends, no socket of ours stays in TIME_WAIT: a node asks the same few ports all day.
    let _ = stream.set_zero_linger();
    if url.is_https() {
        let stream = tls::handshake(url.host(), stream)
            .await
            .map_err(|error| Error::Tls(url.clone(), error))?;
        exchange(stream, request).await
    } else {
        exchange::<TcpStream>(stream, request).await
    }
    .map_err(|error| Error::Http(url.clone(), error))
}

/// Sends the request and reads the answer, in the caller's task.
async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    request: http::Request<Empty<Bytes>>,
) -> Result<(Answer, Option<String>), hyper::Error> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut connection = std::pin::pin!(connection.without_shutdown());
    let conversation = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let location = status.is_redirection() && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = response.headers().get(LOCATION).filter(|_| location);
        let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
        let body = read(response.into_body()).await?;
        Ok((
            Answer {
                status: status.as_u16(),
                body,
            },
            location.filter(|location| !location.is_empty()),
        ))
    };
    let mut conversation = std::pin::pin!(conversation);
    let (outcome, parts) = tokio::select! {
        outcome = &mut conversation => {
            let parts = timeout(CLOSING, connection).await;
            (outcome, parts.ok().and_then(Result::ok))
        }
        parts = &mut connection => {
            let parts = parts?;
            (conversation.await, Some(parts))
        }
    };
    if let Some(parts) = parts {
        closed_by_peer(parts.io.into_inner()).await;
    }
    outcome
}

/// Lets the server, told to close, close first: what we then send, a reset, meets nobody.
async fn closed_by_peer(mut stream: impl AsyncRead + Unpin) {
    let mut rest = [0; 512];
    let _ = timeout(CLOSING, async {
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    })
    .await;
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while read.len() < MAX_ANSWER
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data[..data.len().min(MAX_ANSWER - read.len())]);
        }
    }
    Ok(read)
}
