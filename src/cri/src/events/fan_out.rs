//! What each subscriber has coming to it. No I/O, no clock: queues and decisions only.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use crate::RuntimeEvent;

/// How many events may wait for a subscriber. A node's worst burst is all its containers ending at once.
const QUEUE: usize = 1024;

/// The runtime publishes an exit before its own listing shows it (containerd: 30 to 60 ms before, seconds on a machine with
/// ten times the work it can do). A listing made right after a gap can therefore be older than an event lost in the gap,
/// so others follow: each so long after the one before.
pub(super) const SETTLE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];

#[derive(Debug)]
struct Subscriber {
    tx: mpsc::Sender<RuntimeEvent>,
    /// When to send the `Resync` that follows an earlier one, and which of [`SETTLE`] that is.
    settle_at: Option<(Instant, usize)>,
    /// The last thing in its queue is the `Resync` that stands for events it missed.
    behind: bool,
}

impl Subscriber {
    /// The last place in the queue is kept for a `Resync`, which then stands for everything that finds no place
    /// until it was read: whoever reads it lists after all of that happened.
    fn send(&mut self, event: RuntimeEvent, now: Instant) {
        match self.tx.capacity() {
            0 => {}
            1 if self.behind => {}
            1 => {
                self.behind = self.tx.try_send(RuntimeEvent::Resync).is_ok();
            }
            _ => {
                let resync = event == RuntimeEvent::Resync;
                self.behind = false;
                if self.tx.try_send(event).is_ok() && !resync {
                    return;
                }
            }
        }
        self.settle_at = Some((now + SETTLE[0], 0));
    }
}

/// All subscribers, and whether the stream stands.
#[derive(Debug, Default)]
pub(crate) struct FanOut {
    subscribers: Vec<Subscriber>,
    standing: bool,
}

impl FanOut {
    /// A new subscriber; its first event comes now if the stream stands already.
    pub(crate) fn add(&mut self, now: Instant) -> mpsc::Receiver<RuntimeEvent> {
        let (tx, rx) = mpsc::channel(QUEUE);
        let mut subscriber = Subscriber {
            tx,
            settle_at: None,
            behind: false,
        };
        if self.standing {
            subscriber.send(RuntimeEvent::Resync, now);
        }
        self.subscribers.push(subscriber);
        rx
    }

    /// One receiver that still lives, if any does; forgets the others.
    pub(crate) fn any_open(&mut self) -> Option<mpsc::Sender<RuntimeEvent>> {
        self.subscribers.retain(|s| !s.tx.is_closed());
        if self.subscribers.is_empty() {
            self.standing = false;
        }
        self.subscribers.first().map(|s| s.tx.clone())
    }

    /// From here on no event is lost: everything before must be listed.
    pub(crate) fn stands(&mut self, now: Instant) {
        self.standing = true;
        self.deliver(&RuntimeEvent::Resync, now);
    }

    /// Events may be lost from here on. Whether the stream stood.
    pub(crate) fn broken(&mut self) -> bool {
        std::mem::replace(&mut self.standing, false)
    }

    /// One event for everybody; before the stream stands, its `Resync` covers it.
    pub(crate) fn deliver(&mut self, event: &RuntimeEvent, now: Instant) {
        if !self.standing {
            return;
        }
        self.subscribers.retain(|s| !s.tx.is_closed());
        for subscriber in &mut self.subscribers {
            subscriber.send(event.clone(), now);
        }
    }

    /// When [`Self::settle`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.subscribers
            .iter()
            .filter_map(|s| s.settle_at.map(|(at, _)| at))
            .min()
    }

    /// The `Resync`s that follow earlier ones.
    pub(crate) fn settle(&mut self, now: Instant) {
        for subscriber in &mut self.subscribers {
            let Some((_, number)) = subscriber.settle_at.filter(|(at, _)| *at <= now) else {
                continue;
            };
            let sent = subscriber.tx.try_send(RuntimeEvent::Resync).is_ok();
            // A full queue ends with a `Resync` that has yet to be read, and that one is to be followed.
            let next = if sent { number + 1 } else { number };
            subscriber.settle_at = SETTLE.get(next).map(|wait| (now + *wait, next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(n: usize) -> RuntimeEvent {
        RuntimeEvent::Removed { id: n.to_string() }
    }

    fn drain(rx: &mut mpsc::Receiver<RuntimeEvent>) -> Vec<RuntimeEvent> {
        std::iter::from_fn(|| rx.try_recv().ok()).collect()
    }

    #[test]
    fn the_first_event_is_resync_once_the_stream_stands() {
        let now = Instant::now();
        let mut fan_out = FanOut::default();
        let mut early = fan_out.add(now);
        assert_eq!(drain(&mut early), []);
        fan_out.stands(now);
        let mut late = fan_out.add(now);
        fan_out.deliver(&removed(1), now);
        for rx in [&mut early, &mut late] {
            assert_eq!(drain(rx), [RuntimeEvent::Resync, removed(1)]);
        }
    }

    #[test]
    fn a_resync_is_followed_by_more_until_the_runtime_has_settled() {
        let mut now = Instant::now();
        let mut fan_out = FanOut::default();
        let mut rx = fan_out.add(now);
        fan_out.stands(now);
        assert_eq!(drain(&mut rx), [RuntimeEvent::Resync]);
        for wait in SETTLE {
            assert_eq!(fan_out.next_due(), Some(now + wait));
            now += wait;
            fan_out.settle(now);
            assert_eq!(drain(&mut rx), [RuntimeEvent::Resync]);
        }
        assert_eq!(fan_out.next_due(), None);
    }

    #[test]
    fn a_slow_subscriber_gets_resync_in_place_of_what_it_missed_and_holds_nobody() {
        let now = Instant::now();
        let mut fan_out = FanOut::default();
        let (mut slow, mut quick) = (fan_out.add(now), fan_out.add(now));
        fan_out.stands(now);
        let mut seen = Vec::new();
        for n in 0..3 * QUEUE {
            fan_out.deliver(&removed(n), now);
            seen.append(&mut drain(&mut quick));
        }
        assert_eq!(seen.len(), 1 + 3 * QUEUE, "the quick one missed nothing");
        assert!(!seen[1..].contains(&RuntimeEvent::Resync));

        let got = drain(&mut slow);
        assert_eq!(got.len(), QUEUE);
        assert_eq!(got[QUEUE - 2], removed(QUEUE - 3), "in order up to the gap");
        assert_eq!(got[QUEUE - 1], RuntimeEvent::Resync);
        fan_out.deliver(&removed(7), now);
        assert_eq!(drain(&mut slow), [removed(7)], "and again from the gap on");
        assert_eq!(
            fan_out.next_due(),
            Some(now + SETTLE[0]),
            "the gap's listing is repeated"
        );
    }

    #[test]
    fn while_a_resync_waits_to_be_read_it_stands_for_whatever_finds_no_place() {
        let now = Instant::now();
        let mut fan_out = FanOut::default();
        let mut rx = fan_out.add(now);
        fan_out.stands(now);
        for n in 0..2 * QUEUE {
            fan_out.deliver(&removed(n), now);
        }
        assert_eq!(rx.try_recv(), Ok(RuntimeEvent::Resync));
        fan_out.deliver(&removed(9999), now);
        let got = drain(&mut rx);
        assert!(!got.contains(&removed(9999)));
        assert_eq!(got.last(), Some(&RuntimeEvent::Resync));
        assert_eq!(got.iter().filter(|e| **e == RuntimeEvent::Resync).count(), 1);
    }

    #[test]
    fn receivers_that_were_dropped_are_forgotten() {
        let now = Instant::now();
        let mut fan_out = FanOut::default();
        let (one, two) = (fan_out.add(now), fan_out.add(now));
        drop(one);
        assert!(fan_out.any_open().is_some_and(|tx| !tx.is_closed()));
        drop(two);
        assert!(fan_out.any_open().is_none());
    }
}
