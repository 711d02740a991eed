//! Image import: from an archive on disk into containerd's content store and image list, without a registry.
//!
//! Through the content and image services, which every containerd has (the transfer service begins with 1.7). Blobs
//! go up children first, each checked against its digest, all under a lease that ends the import's claim to them:
//! by then the image record holds them. CRI learns of the record by an event of its own, so the last step is to wait
//! until CRI shows it.

use std::{collections::HashMap, path::Path, time::Duration};

use containerd_client::{
    services::v1::{
        CreateImageRequest, CreateRequest, DeleteRequest, Image, UpdateImageRequest, images_client::ImagesClient,
        leases_client::LeasesClient,
    },
    types::Descriptor,
};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue, transport::Channel};
use tracing::{debug, info};

use crate::{
    ErrorKind, Runtime,
    client::{self, READ_DEADLINE},
    native::in_namespace,
    runtime::{Error, Result},
};

mod layout;
mod name;
mod upload;

use layout::{Layout, NamedImage};

const CALL: &str = "ImportImages";

/// CRI lists an image only when it carries this label.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");

/// After this the lease lapses by itself, if its owner died.
const LEASE_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// CRI takes note within milliseconds; after a restart of containerd it may be busy with other things.
const CRI_DEADLINE: Duration = Duration::from_secs(30);

/// Imports `archive` into the containerd behind `channel`, and waits until `runtime` shows what it contained.
pub(crate) async fn import(
    runtime: &dyn Runtime,
    channel: &Channel,
    endpoint: &str,
    archive: &Path,
) -> Result<Vec<String>> {
    let object = archive.display().to_string();
    let import = Import {
        channel,
        endpoint,
        object: &object,
    };
    let path = archive.to_owned();
    let layout = tokio::task::spawn_blocking(move || layout::read(&path))
        .await
        .map_err(|e| import.error(ErrorKind::Failed, format!("reading stopped: {e}")))?
        .map_err(|e| import.error(ErrorKind::InvalidArgument, e.to_string()))?;

    let lease = import.open_lease().await?;
    let outcome = import.store(archive, &layout, &lease).await;
    // What could not be imported is collected with the lease; what could is held by its image record.
    let closed = import.close_lease(&lease).await;
    outcome?;
    if let Err(error) = closed {
        debug!(%error, "the import's lease will lapse by itself");
    }
    for image in &layout.images {
        import.wait_for_cri(runtime, image).await?;
        info!(image = image.name, digest = image.target.digest, "image imported");
    }
    Ok(layout.images.into_iter().map(|image| image.name).collect())
}

/// The full form of an image's name, as the runtime keeps it; `None` for what is no image name.
pub(crate) fn full_name(name: &str) -> Option<String> {
    name::normalise(name)
}

/// The names of the images in `archive`, which is read and checked as for an import. Blocks.
pub(crate) fn names_in(archive: &Path) -> std::result::Result<Vec<String>, String> {
    let layout = layout::read(archive).map_err(|e| e.to_string())?;
    Ok(layout.images.into_iter().map(|image| image.name).collect())
}

/// One import under way.
struct Import<'a> {
    channel: &'a Channel,
    endpoint: &'a str,
    object: &'a str,
}

impl Import<'_> {
    fn error(&self, kind: ErrorKind, message: String) -> Error {
        Error {
            call: CALL,
            object: self.object.to_owned(),
            kind,
            message,
        }
    }

    fn failed(&self, status: &Status) -> Error {
        client::status_error(CALL, self.object, self.endpoint, status)
    }

    /// One call of containerd's, within [`READ_DEADLINE`]. An object that exists already is `None`.
    async fn create<T>(
        &self,
        answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<Option<T>> {
        match timeout(READ_DEADLINE, answer).await {
            Ok(Ok(response)) => Ok(Some(response.into_inner())),
            Ok(Err(status)) if status.code() == Code::AlreadyExists => Ok(None),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.error(ErrorKind::DeadlineExceeded, "containerd does not answer".to_owned())),
        }
    }

    async fn open_lease(&self) -> Result<String> {
        let expire = (Timestamp::now() + LEASE_LIFE).to_string();
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expire)]);
        // Without an id of ours containerd makes a unique one.
        let request = in_namespace(CreateRequest {
            id: unique_id(),
            labels,
        });
        let answer = self
            .create(LeasesClient::new(self.channel.clone()).create(request))
            .await?;
        let lease = answer.and_then(|answer| answer.lease);
        lease
            .map(|lease| lease.id)
            .ok_or_else(|| self.error(ErrorKind::Failed, "containerd gave no lease".to_owned()))
    }

    async fn close_lease(&self, lease: &str) -> Result<()> {
        let request = in_namespace(DeleteRequest {
            id: lease.to_owned(),
            sync: false,
        });
        self.create(LeasesClient::new(self.channel.clone()).delete(request))
            .await
            .map(drop)
    }

    /// Blobs, then the records that hold them.
    async fn store(&self, archive: &Path, layout: &Layout, lease: &str) -> Result<()> {
        for blob in &layout.blobs {
            upload::blob(self, archive, blob, lease).await?;
        }
        for image in &layout.images {
            self.record(image, lease).await?;
        }
        Ok(())
    }

    /// Creates the image's record, or points an earlier one of this name to the new content.
    async fn record(&self, image: &NamedImage, lease: &str) -> Result<()> {
        let record = Image {
            name: image.name.clone(),
            labels: HashMap::from([(MANAGED.0.to_owned(), MANAGED.1.to_owned())]),
            target: Some(Descriptor {
                media_type: image.target.media_type.clone(),
                digest: image.target.digest.clone(),
                size: image.target.size as i64,
                annotations: HashMap::new(),
            }),
            created_at: None,
            updated_at: None,
        };
        let mut images = ImagesClient::new(self.channel.clone());
        let request = CreateImageRequest {
            image: Some(record.clone()),
            source_date_epoch: None,
        };
        if self.create(images.create(leased(request, lease))).await?.is_some() {
            return Ok(());
        }
        let mask = ["target".to_owned(), format!("labels.{}", MANAGED.0)];
        let request = UpdateImageRequest {
            image: Some(record),
            update_mask: Some(prost_types::FieldMask { paths: mask.into() }),
            source_date_epoch: None,
        };
        self.create(images.update(leased(request, lease))).await.map(drop)
    }

    /// CRI keeps a list of its own, brought up to date by containerd's events.
    async fn wait_for_cri(&self, runtime: &dyn Runtime, image: &NamedImage) -> Result<()> {
        let deadline = Instant::now() + CRI_DEADLINE;
        let mut wait = Duration::from_millis(2);
        loop {
            let seen = runtime.image_status(&image.name).await?;
            if seen.is_some_and(|seen| image.configs.contains(&seen.id)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "containerd holds {} but its CRI plugin does not show it: is it made for this machine's platform?",
                    image.name
                );
                return Err(self.error(ErrorKind::DeadlineExceeded, message));
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(100));
        }
    }
}

/// A request whose effects the lease protects from garbage collection.
fn leased<T>(message: T, lease: &str) -> Request<T> {
    let mut request = in_namespace(message);
    if let Ok(value) = MetadataValue::try_from(lease) {
        request.metadata_mut().insert("containerd-lease", value);
    }
    request
}

/// Not used by any other import, here or in another process.
fn unique_id() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = Timestamp::now().as_nanosecond();
    format!(
        "bosun-import-{now}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
