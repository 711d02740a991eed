//! Lifecycle hooks: what a container does right after its start and before its end.

use std::{sync::Arc, time::Duration};

use bosun_api::{ContainerId, core::LifecycleHandler};
use bosun_cri::Runtime;
use tokio::time::timeout;

use crate::probe::{
    action::{Action, Outcome, Target},
    http,
};

/// A hook that did not do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// It ran and failed, or could not be run.
    #[error("{0}")]
    Failed(String),
    /// It was still running when its time was over.
    #[error("not done after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// Runs a `postStart` or `preStop` hook of a container, for at most `limit`.
///
/// As upstream, any answer to a request will do, whatever its status. A command that outlasts `limit` is killed by
/// the runtime; dropping the future leaves that to the runtime too.
pub async fn run_hook(
    runtime: &Arc<dyn Runtime>,
    container: &ContainerId,
    hook: &LifecycleHandler,
    target: &Target<'_>,
    limit: Duration,
) -> Result<(), HookError> {
    let run = async {
        match Action::of_hook(hook, target) {
            Action::Http(request) => {
                let answer = http::get(&request, "kube-lifecycle/1.36").await;
                answer.map(drop).map_err(|error| HookError::Failed(error.to_string()))
            }
            action => match action.run(&**runtime, container, limit, "").await {
                Outcome::Success(_) => Ok(()),
                Outcome::Failure(message) | Outcome::Unknown(message) => Err(HookError::Failed(message)),
            },
        }
    };
    timeout(limit, run).await.unwrap_or(Err(HookError::TimedOut(limit)))
}
