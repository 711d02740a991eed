//! CRI's `GetContainerEvents`, for runtimes other than containerd.

use std::{convert::Infallible, time::Duration};

use jiff::Timestamp;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::{Broken, FanOut, Hub};
use crate::{
    RuntimeEvent,
    v1::{ContainerEventResponse, ContainerEventType, GetEventsRequest, runtime_service_client::RuntimeServiceClient},
};

/// The server may send nothing before the first event, and there is no call by which we could cause one. A
/// subscription this old is taken to be in place; the `Resync` that follows every other covers the doubt.
const TAKEN_AS_STANDING: Duration = Duration::from_millis(250);

/// Opens the stream and passes on its events until it breaks.
pub(super) async fn follow(channel: Channel, hub: &Hub) -> Broken {
    match run(channel, hub).await {
        Ok(never) => match never {},
        Err(broken) => broken,
    }
}

async fn run(channel: Channel, hub: &Hub) -> Result<Infallible, Broken> {
    let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(crate::client::MAX_MESSAGE);
    let opening = client.get_container_events(GetEventsRequest {});
    tokio::pin!(opening);
    let early = timeout(TAKEN_AS_STANDING, &mut opening).await;
    if !matches!(early, Ok(Err(_))) {
        hub.with(FanOut::stands);
    }
    let answer = match early {
        Ok(answer) => answer,
        Err(_) => opening.await,
    };
    let mut stream = answer?.into_inner();
    while let Some(event) = stream.message().await? {
        if let Some(event) = translate(&event) {
            hub.with(|fan_out, now| fan_out.deliver(&event, now));
        }
    }
    Err(Broken::Ended)
}

/// `None` for what the caller caused itself.
fn translate(event: &ContainerEventResponse) -> Option<RuntimeEvent> {
    let id = event.container_id.clone();
    match event.container_event_type() {
        ContainerEventType::ContainerCreatedEvent | ContainerEventType::ContainerStartedEvent => None,
        ContainerEventType::ContainerDeletedEvent => Some(RuntimeEvent::Removed { id }),
        ContainerEventType::ContainerStoppedEvent => {
            // A sandbox is among its own containers in no runtime, so its code is not known; nobody asks for it.
            let status = event.containers_statuses.iter().find(|status| status.id == id);
            let (code, at) = status.map_or((0, 0), |status| (status.exit_code, status.finished_at));
            let at = if at == 0 { event.created_at } else { at };
            let finished_at = Timestamp::from_nanosecond(i128::from(at)).unwrap_or(Timestamp::UNIX_EPOCH);
            Some(RuntimeEvent::Exited {
                id,
                exit_code: code,
                finished_at,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::ContainerStatus;

    fn event(kind: ContainerEventType) -> ContainerEventResponse {
        ContainerEventResponse {
            container_id: "a".into(),
            container_event_type: kind.into(),
            created_at: 9,
            pod_sandbox_status: None,
            containers_statuses: vec![
                ContainerStatus {
                    id: "b".into(),
                    exit_code: 1,
                    ..ContainerStatus::default()
                },
                ContainerStatus {
                    id: "a".into(),
                    exit_code: 137,
                    finished_at: 7,
                    ..ContainerStatus::default()
                },
            ],
        }
    }

    #[test]
    fn a_stop_carries_the_code_and_time_of_its_own_container() {
        let finished_at = |ns| Timestamp::from_nanosecond(ns).expect("in range");
        let mut stopped = event(ContainerEventType::ContainerStoppedEvent);
        assert_eq!(
            translate(&stopped),
            Some(RuntimeEvent::Exited {
                id: "a".into(),
                exit_code: 137,
                finished_at: finished_at(7)
            })
        );
        stopped.container_id = "sandbox".into();
        assert_eq!(
            translate(&stopped),
            Some(RuntimeEvent::Exited {
                id: "sandbox".into(),
                exit_code: 0,
                finished_at: finished_at(9)
            })
        );
    }

    #[test]
    fn only_stops_and_removals_are_passed_on() {
        assert_eq!(translate(&event(ContainerEventType::ContainerCreatedEvent)), None);
        assert_eq!(translate(&event(ContainerEventType::ContainerStartedEvent)), None);
        assert_eq!(
            translate(&event(ContainerEventType::ContainerDeletedEvent)),
            Some(RuntimeEvent::Removed { id: "a".into() })
        );
    }
}
