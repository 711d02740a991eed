//! What our callers of containerd's own services have in common.

use std::time::Duration;

use containerd_client::{
    services::v1::{ListTasksRequest, tasks_client::TasksClient},
    types::v1::{Process, Status as TaskStatus},
};
use tokio::time::timeout;
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

/// Where containerd's CRI plugin keeps everything of its own.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// A request within CRI's namespace.
pub(crate) fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request
}

/// containerd asks each shim for at most two seconds, one after the other.
const LIST_DEADLINE: Duration = Duration::from_mins(1);

/// The tasks whose main process has ended and which nobody has deleted yet: CRI deletes each when it notes its end.
pub(crate) async fn stopped_tasks(channel: &Channel) -> Result<Vec<Process>, Status> {
    let mut client = TasksClient::new(channel.clone()).max_decoding_message_size(crate::client::MAX_MESSAGE);
    let answer = client.list(in_namespace(ListTasksRequest { filter: String::new() }));
    let answer = timeout(LIST_DEADLINE, answer).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no list of tasks from containerd in time"))??;
    let mut tasks = answer.into_inner().tasks;
    tasks.retain(|task| task.status() == TaskStatus::Stopped);
    for task in &mut tasks {
        // 1.6 names the container by the process's id only: a main process has its container's.
        if task.container_id.is_empty() {
            task.container_id.clone_from(&task.id);
        }
    }
    Ok(tasks)
}
