//! One blob into containerd's content store: streamed, never whole in memory, checked on both sides.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use containerd_client::services::v1::{
    Info, UpdateRequest, WriteAction, WriteContentRequest, content_client::ContentClient,
};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    Import,
    layout::{Blob, Source, hex_digest},
    leased,
};
use crate::{ErrorKind, runtime::Result};

/// What one message carries.
const CHUNK: usize = 1 << 20;

/// How many messages may wait for the wire.
const AHEAD: usize = 2;

/// A disk that takes nothing for this long has failed.
const PROGRESS_DEADLINE: Duration = Duration::from_mins(1);

/// Stores `blob` unless it is there already; either way its references to other blobs are in place afterwards.
pub(super) async fn blob(import: &Import<'_>, archive: &Path, blob: &Blob, lease: &str) -> Result<()> {
    match write(import, archive, blob, lease).await {
        Ok(()) => Ok(()),
        Err(Failure::Exists) if blob.labels.is_empty() => Ok(()),
        Err(Failure::Exists) => {
            let request = UpdateRequest {
                info: Some(Info {
                    digest: blob.digest.clone(),
                    labels: labels(blob),
                    ..Info::default()
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: blob.labels.keys().map(|key| format!("labels.{key}")).collect(),
                }),
            };
            let mut content = ContentClient::new(import.channel.clone());
            import.create(content.update(leased(request, lease))).await.map(drop)
        }
        Err(Failure::Status(status)) => Err(import.failed(&status)),
        Err(Failure::Source(message)) => {
            Err(import.error(ErrorKind::InvalidArgument, format!("blob {}: {message}", blob.digest)))
        }
        Err(Failure::Stalled) => {
            let message = format!("containerd takes nothing more of blob {}", blob.digest);
            Err(import.error(ErrorKind::DeadlineExceeded, message))
        }
    }
}

enum Failure {
    Exists,
    Status(Status),
    Source(String),
    Stalled,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if status.code() == Code::AlreadyExists {
            Self::Exists
        } else {
            Self::Status(status)
        }
    }
}

async fn write(import: &Import<'_>, archive: &Path, blob: &Blob, lease: &str) -> std::result::Result<(), Failure> {
    let (tx, rx) = mpsc::channel(AHEAD);
    let reader = Reader {
        archive: archive.to_owned(),
        blob: blob.clone(),
        ingest: format!("{lease}-{}", blob.digest),
    };
    let reading = tokio::task::spawn_blocking(move || reader.run(&tx));

    let mut content = ContentClient::new(import.channel.clone());
    let sent = async {
        let mut answers = content
            .write(leased(ReceiverStream::new(rx), lease))
            .await?
            .into_inner();
        loop {
            match timeout(PROGRESS_DEADLINE, answers.message()).await {
                Err(_) => return Err(Failure::Stalled),
                Ok(answer) => match answer? {
                    Some(answer) if answer.action() == WriteAction::Commit => return Ok(()),
                    Some(_) => {}
                    None => return Err(Status::unknown("containerd ended the upload before it was committed").into()),
                },
            }
        }
    };
    // The first answer comes after the first message.
    let sent = sent.await;
    let read = reading.await.map_err(|e| Failure::Source(e.to_string()))?;
    match (sent, read) {
        // Reading failed first, and what containerd said of the cut-off stream is only the consequence.
        (Err(Failure::Status(_) | Failure::Stalled), Err(message)) => Err(Failure::Source(message)),
        (sent, _) => sent,
    }
}

fn labels(blob: &Blob) -> HashMap<String, String> {
    blob.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Reads a blob and makes the messages of it, on a thread of its own.
struct Reader {
    archive: PathBuf,
    blob: Blob,
    ingest: String,
}

impl Reader {
    /// Ends early, as a success, when nobody takes the messages any more.
    fn run(self, tx: &mpsc::Sender<WriteContentRequest>) -> std::result::Result<(), String> {
        let total = self.blob.size as i64;
        let message = |action: WriteAction, offset: i64, data: Vec<u8>| WriteContentRequest {
            action: action.into(),
            r#ref: self.ingest.clone(),
            total,
            expected: self.blob.digest.clone(),
            offset,
            data,
            labels: HashMap::new(),
        };
        if tx.blocking_send(message(WriteAction::Stat, 0, Vec::new())).is_err() {
            return Ok(());
        }
        let mut source: Box<dyn Read> = match &self.blob.source {
            Source::Bytes(bytes) => Box::new(&bytes[..]),
            Source::Archive { offset } => {
                let mut file = File::open(&self.archive).map_err(|e| e.to_string())?;
                file.seek(SeekFrom::Start(*offset)).map_err(|e| e.to_string())?;
                Box::new(file.take(self.blob.size))
            }
        };
        let mut hash = Sha256::new();
        let mut offset = 0;
        loop {
            let mut data = Vec::with_capacity(CHUNK.min((total - offset) as usize));
            source
                .by_ref()
                .take(CHUNK as u64)
                .read_to_end(&mut data)
                .map_err(|e| e.to_string())?;
            if data.is_empty() {
                break;
            }
            hash.update(&data);
            let len = data.len() as i64;
            if tx.blocking_send(message(WriteAction::Write, offset, data)).is_err() {
                return Ok(());
            }
            offset += len;
        }
        let found = hex_digest(&hash.finalize());
        if found != self.blob.digest {
            return Err(format!("its content is {found}: the archive is damaged"));
        }
        let mut commit = message(WriteAction::Commit, offset, Vec::new());
        commit.labels = labels(&self.blob);
        let _ = tx.blocking_send(commit);
        Ok(())
    }
}
