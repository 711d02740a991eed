//! Images, made present once however many pods wait for them.

use std::{collections::HashMap, sync::Arc};

use bosun_cri::{ErrorKind, Runtime};
use parking_lot::Mutex;

/// Why an image can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It is absent and the pod forbids pulling it.
    #[error(
        "image {image} is not present and imagePullPolicy is Never: import it with `bosun images import FILE` or \
         change the policy"
    )]
    NeverPull {
        /// The image.
        image: String,
    },
    /// It could not be pulled.
    #[error("pulling image {image}: {message}")]
    Pull {
        /// The image.
        image: String,
        /// The runtime's words.
        message: String,
    },
    /// The runtime could not say whether it is there.
    #[error("looking for image {image}: {message}")]
    Inspect {
        /// The image.
        image: String,
        /// The runtime's words.
        message: String,
    },
}

impl ImageError {
    /// Upstream's reason in a waiting container's status, at the n-th failure in a row.
    pub fn reason(&self, failures: u32) -> &'static str {
        match self {
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::Pull { .. } if failures > 1 => "ImagePullBackOff",
            Self::Pull { .. } => "ErrImagePull",
            Self::Inspect { .. } => "ImageInspectError",
        }
    }
}

/// Pulls images, each at most once at a time.
#[derive(Debug, Default)]
pub struct Images {
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    /// Makes sure that an image is present, as `policy` (`Always`, `IfNotPresent`, `Never`) says.
    pub async fn ensure(&self, runtime: &dyn Runtime, image: &str, policy: &str) -> Result<(), ImageError> {
        if policy != "Always" && is_present(runtime, image).await? {
            return Ok(());
        }
        if policy == "Never" {
            return Err(ImageError::NeverPull { image: image.into() });
        }
        let turn = self.pulls.lock().entry(image.to_owned()).or_default().clone();
        let waited = turn.try_lock().is_err();
        let guard = turn.lock().await;
        // Somebody else's pull that ended just now will do.
        let pulled = if waited && is_present(runtime, image).await? {
            Ok(String::new())
        } else {
            tracing::info!(image, "pulling image");
            runtime.pull_image(image, None).await
        };
        drop(guard);
        self.pulls
            .lock()
            .retain(|name, turn| name != image || Arc::strong_count(turn) > 2);
        match pulled {
            Ok(_) => Ok(()),
            Err(error) => Err(ImageError::Pull {
                image: image.into(),
                message: error.message,
            }),
        }
    }
}

async fn is_present(runtime: &dyn Runtime, image: &str) -> Result<bool, ImageError> {
    match runtime.image_status(image).await {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ImageError::Inspect {
            image: image.into(),
            message: error.message,
        }),
    }
}
