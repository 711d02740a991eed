//! What goes wrong in the fake runtime, by order of a test.

use std::{collections::VecDeque, time::Duration};

use crate::ErrorKind;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes this much longer.
    Slow(Duration),
    /// It is not answered, until the caller's deadline or [`super::FakeRuntime::release`].
    Hang,
    /// It fails, and nothing was done.
    Fail(ErrorKind, String),
    /// It is done, but the answer is lost on the way.
    LoseAnswer,
}

/// Which calls a fault is for.
#[derive(Clone, Debug)]
struct Order {
    call: String,
    /// Part of the object's id or name; `None` for any object.
    object: Option<String>,
    fault: Fault,
    /// How many more calls; `None` for all to come.
    times: Option<usize>,
}

/// The faults that were ordered, earliest first.
#[derive(Debug, Default)]
pub(super) struct Faults(VecDeque<Order>);

impl Faults {
    pub(super) fn order(&mut self, call: &str, object: Option<&str>, fault: Fault, times: Option<usize>) {
        let (call, object) = (call.to_owned(), object.map(ToOwned::to_owned));
        self.0.push_back(Order {
            call,
            object,
            fault,
            times,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for this call, if any; one that was for a number of calls is used up by it.
    pub(super) fn take(&mut self, call: &str, object: &str) -> Option<Fault> {
        let matches =
            |order: &Order| order.call == call && order.object.as_ref().is_none_or(|part| object.contains(part));
        let at = self.0.iter().position(matches)?;
        let order = &mut self.0[at];
        let fault = order.fault.clone();
        if let Some(times) = &mut order.times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(at);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_its_call_and_object_as_often_as_ordered() {
        let mut faults = Faults::default();
        faults.order("StartContainer", Some("web"), Fault::Hang, Some(1));
        faults.order("StartContainer", None, Fault::LoseAnswer, None);
        assert_eq!(faults.take("StopContainer", "web"), None);
        assert_eq!(faults.take("StartContainer", "ns/web"), Some(Fault::Hang));
        for _ in 0..3 {
            assert_eq!(faults.take("StartContainer", "ns/web"), Some(Fault::LoseAnswer));
        }
        faults.clear();
        assert_eq!(faults.take("StartContainer", "ns/web"), None);
    }
}
