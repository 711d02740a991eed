//! Questions to the agent, over its Unix socket.

use std::{io, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// The agent answers from memory: more than this and something is wrong.
const DEADLINE: Duration = Duration::from_secs(10);
/// Far beyond what a node full of pods has to say.
const MAX_ANSWER: usize = 64 << 20;

/// Asks the agent whose socket is `socket` for `path`.
pub(crate) async fn get(socket: &Path, path: &'static str) -> anyhow::Result<Bytes> {
    let asked = timeout(DEADLINE, exchange(socket, path)).await;
    let late = || anyhow!("the agent at {} does not answer: look into its log", socket.display());
    asked.map_err(|_| late())?
}

async fn exchange(socket: &Path, path: &'static str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let mut request = Request::get(path).body(Empty::<Bytes>::new())?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("agent"));
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow!(error))?.to_bytes();
        if !status.is_success() {
            bail!("it answered {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    };
    tokio::pin!(answer, connection);
    let outcome = tokio::select! {
        outcome = &mut answer => outcome,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    };
    outcome.with_context(|| format!("asking the agent at {}", socket.display()))
}

fn unreachable(socket: &Path, error: io::Error) -> anyhow::Error {
    let place = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => anyhow!(
            "no agent answers at {place}: start one with 'bosun agent --manifest-dir DIR', or name its --run-dir"
        ),
        io::ErrorKind::PermissionDenied => anyhow!("the agent at {place} answers root only: try sudo"),
        _ => anyhow!(error).context(format!("connecting to the agent at {place}")),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
        task::JoinSet,
    };

    use super::*;

    /// An agent that answers with these words.
    fn agent(directory: &TempDir, words: &'static str) -> JoinSet<String> {
        let listener = UnixListener::bind(directory.path().join("agent.sock")).unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(words.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        task
    }

    #[tokio::test]
    async fn the_agents_words_are_returned() {
        let directory = TempDir::new().unwrap();
        let mut task = agent(&directory, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(get(&directory.path().join("agent.sock"), "/pods").await.unwrap(), "hi");
        assert!(
            task.join_next()
                .await
                .unwrap()
                .unwrap()
                .starts_with("GET /pods HTTP/1.1\r\n")
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_none_says_what_was_asked_of_whom() {
        for (answer, words) in [
            (
                "HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nsorry",
                "it answered 500 Internal Server Error: sorry",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "asking the agent at"),
            ("", "asking the agent at"),
            ("garbage\r\n\r\n", "asking the agent at"),
        ] {
            let directory = TempDir::new().unwrap();
            let _task = agent(&directory, answer);
            let error = format!(
                "{:#}",
                get(&directory.path().join("agent.sock"), "/pods").await.unwrap_err()
            );
            assert!(
                error.contains(words) && error.contains("agent.sock"),
                "{answer:?}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn no_agent_is_told_with_its_socket_and_what_to_do() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("agent.sock");
        let error = get(&socket, "/pods").await.unwrap_err().to_string();
        let expected = format!("no agent answers at {}: start one with 'bosun agent", socket.display());
        assert!(error.starts_with(&expected), "{error}");
        drop(UnixListener::bind(&socket).unwrap());
        assert!(
            get(&socket, "/pods")
                .await
                .unwrap_err()
                .to_string()
                .starts_with(&expected),
            "a socket left over"
        );
    }
}
