//! containerd's own event service: the only push source that 1.6, 1.7 and 2.x all have.

use std::{
    collections::{HashSet, VecDeque},
    error::Error as _,
    time::Duration,
};

use containerd_client::{
    events::{ContainerDelete, TaskDelete, TaskExit, TaskOom},
    services::v1::{PublishRequest, SubscribeRequest, events_client::EventsClient},
    types::{Envelope, v1::Process},
};
use jiff::Timestamp;
use prost::Message;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::transport::Channel;
use tracing::warn;

use super::{Broken, FanOut, Hub};
use crate::{
    ErrorKind, RuntimeEvent,
    client::status_kind,
    native::{in_namespace, stopped_tasks},
    v1::{StatusRequest, runtime_service_client::RuntimeServiceClient},
};

const EXIT: &str = "/tasks/exit";
const OOM: &str = "/tasks/oom";
const TASK_DELETE: &str = "/tasks/delete";
const CONTAINER_DELETE: &str = "/containers/delete";

/// Our own topic, published until it comes back. Whoever published it: it shows that the subscription is in place.
const MARKER: &str = "/bosun/subscribed";

/// A subscription is in place within milliseconds; a containerd that just started may be busy recovering.
const STAND_DEADLINE: Duration = Duration::from_secs(20);

/// How long a marker may take to come back before the next is sent: the first time, and at most.
const MARKER_PERIOD: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(250));

/// How long CRI may take after a start to read what it knew: some hundred containers on a busy disk.
const RECOVERY_DEADLINE: Duration = Duration::from_mins(2);

/// How often to ask whether it has: the first time, and at most.
const READY_PERIOD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How many exits are remembered, so that one reported twice is passed on once.
const REMEMBERED: usize = 1024;

/// Opens the stream and passes on its events until it breaks.
///
/// The server sends nothing, not even headers, before the first event: that the call returns, or that it doesn't,
/// says nothing. So a marker is published until anything arrives, and that is when the stream stands.
pub(super) async fn follow(channel: Channel, hub: &Hub) -> Broken {
    match run(channel, hub).await {
        Ok(never) => match never {},
        Err(broken) => broken,
    }
}

async fn run(channel: Channel, hub: &Hub) -> Result<std::convert::Infallible, Broken> {
    let mut client = EventsClient::new(channel.clone());
    let filters = [EXIT, OOM, TASK_DELETE, CONTAINER_DELETE, MARKER]
        .map(|topic| format!(r#"namespace=="{}",topic=="{topic}""#, crate::native::NAMESPACE));
    let opening = client.subscribe(in_namespace(SubscribeRequest {
        filters: filters.into(),
    }));
    tokio::pin!(opening);

    let deadline = Instant::now() + STAND_DEADLINE;
    let mut wait = MARKER_PERIOD.0;
    let mut stream = loop {
        tokio::select! {
            biased;
            answer = &mut opening => break answer?.into_inner(),
            () = sleep_until(Instant::now() + wait) => {
                timeout_at(deadline, publish_marker(&channel)).await.map_err(|_| Broken::NeverStood)??;
                wait = (wait * 2).min(MARKER_PERIOD.1);
            }
        }
        if Instant::now() >= deadline {
            return Err(Broken::NeverStood);
        }
    };

    // Headers come with the first event.
    let first = timeout_at(deadline, stream.message()).await;
    let mut next = first.map_err(|_| Broken::NeverStood)??;
    // What comes meanwhile waits in the stream.
    let ready = timeout(RECOVERY_DEADLINE, cri_is_ready(&channel)).await;
    ready.map_err(|_| Broken::NeverStood)??;
    hub.with(FanOut::stands);

    // An exit in the gap may be in neither its event nor CRI's list. Most it notes a moment later; one that happens
    // just while CRI recovers after a start it never notes. The tasks themselves know all of them.
    let stopped = stopped_tasks(&channel);
    tokio::pin!(stopped);
    let mut listing = true;
    let mut exits = Exits::default();
    while let Some(envelope) = next {
        if let Some(event) = exits.translate(&envelope) {
            hub.with(|fan_out, now| fan_out.deliver(&event, now));
        }
        next = loop {
            tokio::select! {
                tasks = &mut stopped, if listing => {
                    listing = false;
                    let ended = tasks.inspect_err(|error| warn!(%error, "containerd does not list its tasks"));
                    for event in ended.into_iter().flatten().filter_map(|task| exits.task(task)) {
                        hub.with(|fan_out, now| fan_out.deliver(&event, now));
                    }
                }
                next = stream.message() => break next?,
            }
        };
    }
    Err(Broken::Ended)
}

/// Waits until CRI can be asked for lists: after a start, containerd's own services are there before it is.
async fn cri_is_ready(channel: &Channel) -> Result<(), Broken> {
    let mut client = RuntimeServiceClient::new(channel.clone());
    let mut wait = READY_PERIOD.0;
    loop {
        match client.status(StatusRequest { verbose: false }).await {
            Err(status) if status_kind(&status) == ErrorKind::Unavailable && status.source().is_none() => {
                sleep(wait).await;
                wait = (wait * 2).min(READY_PERIOD.1);
            }
            Err(status) if status.source().is_some() => return Err(status.into()),
            // Any other answer is an answer.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

/// Announces nothing to nobody, on a topic of ours.
async fn publish_marker(channel: &Channel) -> Result<(), Broken> {
    // A type every containerd knows, so that tools which print all events can print this one.
    let event = prost_types::Any {
        type_url: "google.protobuf.Empty".to_owned(),
        value: Vec::new(),
    };
    let request = PublishRequest {
        topic: MARKER.to_owned(),
        event: Some(event),
    };
    EventsClient::new(channel.clone())
        .publish(in_namespace(request))
        .await?;
    Ok(())
}

/// From containerd's events to ours. Remembers recent exits.
#[derive(Debug, Default)]
struct Exits {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Exits {
    /// `None` for what concerns nobody. What can't be read may have concerned somebody: list everything.
    fn translate(&mut self, envelope: &Envelope) -> Option<RuntimeEvent> {
        match self.read(envelope) {
            Ok(event) => event,
            Err(error) => {
                warn!(topic = envelope.topic, %error, "an event of containerd's can't be read, listing everything");
                Some(RuntimeEvent::Resync)
            }
        }
    }

    fn read(&mut self, envelope: &Envelope) -> Result<Option<RuntimeEvent>, prost::DecodeError> {
        let payload = envelope.event.as_ref().map_or(&[][..], |any| &any.value);
        Ok(match envelope.topic.as_str() {
            EXIT => {
                let exit = TaskExit::decode(payload)?;
                let at = exit.exited_at.or(envelope.timestamp);
                self.exited(exit.container_id, &exit.id, exit.exit_status, at)
            }
            // Says the same once more, after the exit: for the case that the exit fell into a gap.
            TASK_DELETE => {
                let exit = TaskDelete::decode(payload)?;
                let at = exit.exited_at.or(envelope.timestamp);
                self.exited(exit.container_id, &exit.id, exit.exit_status, at)
            }
            OOM => Some(RuntimeEvent::OutOfMemory {
                id: TaskOom::decode(payload)?.container_id,
            }),
            CONTAINER_DELETE => Some(RuntimeEvent::Removed {
                id: ContainerDelete::decode(payload)?.id,
            }),
            _ => None,
        })
    }

    /// The end of a task that was found stopped.
    fn task(&mut self, task: Process) -> Option<RuntimeEvent> {
        self.exited(task.container_id, "", task.exit_status, task.exited_at)
    }

    /// `process` is the container's own id for its main process, and another one for what was exec'd into it.
    fn exited(
        &mut self,
        id: String,
        process: &str,
        status: u32,
        at: Option<prost_types::Timestamp>,
    ) -> Option<RuntimeEvent> {
        if !process.is_empty() && process != id {
            return None;
        }
        if !self.known.insert(id.clone()) {
            return None;
        }
        self.order.push_back(id.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let at = at.and_then(|t| Timestamp::new(t.seconds, t.nanos).ok());
        Some(RuntimeEvent::Exited {
            id,
            exit_code: status as i32,
            finished_at: at.unwrap_or(Timestamp::UNIX_EPOCH),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: prost_types::Timestamp = prost_types::Timestamp {
        seconds: 1_700_000_000,
        nanos: 5,
    };

    fn envelope(topic: &str, event: &impl Message) -> Envelope {
        let any = prost_types::Any {
            type_url: String::new(),
            value: event.encode_to_vec(),
        };
        Envelope {
            timestamp: Some(AT),
            namespace: "k8s.io".into(),
            topic: topic.into(),
            event: Some(any),
        }
    }

    fn exit(container: &str, process: &str) -> Envelope {
        envelope(
            EXIT,
            &TaskExit {
                container_id: container.into(),
                id: process.into(),
                pid: 7,
                exit_status: 137,
                exited_at: Some(AT),
            },
        )
    }

    fn deletion(container: &str, process: &str) -> Envelope {
        envelope(
            TASK_DELETE,
            &TaskDelete {
                container_id: container.into(),
                id: process.into(),
                pid: 7,
                exit_status: 137,
                exited_at: Some(AT),
            },
        )
    }

    fn exited(id: &str) -> RuntimeEvent {
        let finished_at = Timestamp::new(AT.seconds, AT.nanos).expect("in range");
        RuntimeEvent::Exited {
            id: id.into(),
            exit_code: 137,
            finished_at,
        }
    }

    #[test]
    fn an_exit_is_reported_once_though_containerd_says_it_twice() {
        let mut exits = Exits::default();
        assert_eq!(exits.translate(&exit("a", "a")), Some(exited("a")));
        assert_eq!(exits.translate(&deletion("a", "")), None);
        assert_eq!(
            exits.translate(&deletion("b", "")),
            Some(exited("b")),
            "its exit fell into a gap"
        );
    }

    #[test]
    fn a_task_found_stopped_is_an_exit_unless_it_was_heard_of() {
        let mut exits = Exits::default();
        let stopped = |id: &str| Process {
            container_id: id.into(),
            id: id.into(),
            exit_status: 137,
            exited_at: Some(AT),
            ..Process::default()
        };
        assert_eq!(exits.translate(&exit("a", "a")), Some(exited("a")));
        assert_eq!(exits.task(stopped("a")), None);
        assert_eq!(exits.task(stopped("b")), Some(exited("b")));
        assert_eq!(exits.translate(&deletion("b", "")), None);
    }

    #[test]
    fn the_end_of_an_exec_is_not_the_end_of_its_container() {
        let mut exits = Exits::default();
        assert_eq!(exits.translate(&exit("a", "probe-1")), None);
        assert_eq!(exits.translate(&deletion("a", "probe-1")), None);
        assert_eq!(exits.translate(&exit("a", "a")), Some(exited("a")));
    }

    #[test]
    fn memory_kills_and_removals_name_the_container() {
        let mut exits = Exits::default();
        let oom = envelope(
            OOM,
            &TaskOom {
                container_id: "a".into(),
            },
        );
        assert_eq!(
            exits.translate(&oom),
            Some(RuntimeEvent::OutOfMemory { id: "a".into() })
        );
        let deletion = envelope(CONTAINER_DELETE, &ContainerDelete { id: "a".into() });
        assert_eq!(
            exits.translate(&deletion),
            Some(RuntimeEvent::Removed { id: "a".into() })
        );
        assert_eq!(exits.translate(&envelope(MARKER, &())), None);
    }

    #[test]
    fn an_event_that_cannot_be_read_asks_for_a_listing() {
        let mut broken = exit("a", "a");
        broken.event.as_mut().expect("set").value = vec![0xff; 9];
        assert_eq!(Exits::default().translate(&broken), Some(RuntimeEvent::Resync));
    }

    #[test]
    fn only_recent_exits_are_remembered() {
        let mut exits = Exits::default();
        for n in 0..3 * REMEMBERED {
            assert!(exits.translate(&exit(&n.to_string(), "")).is_some());
        }
        assert_eq!(exits.known.len(), REMEMBERED);
        assert_eq!(exits.order.len(), REMEMBERED);
    }
}
