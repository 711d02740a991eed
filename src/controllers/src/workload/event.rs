//! What users are told of what a controller did.

/// An event about the object that a plan is for; reasons and messages are upstream's, since people and tools look for
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Something that needs attention, rather than the usual course of things.
    pub warning: bool,
    /// In one word, such as `SuccessfulCreate`.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

impl Event {
    /// The usual course of things.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            message: message.into(),
        }
    }

    /// Something that needs attention.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason,
            message: message.into(),
        }
    }
}
