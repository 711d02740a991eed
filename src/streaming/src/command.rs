//! A remote command: its standard streams, the terminal's size, and how it ended, as five channels.

pub mod spdy;
pub mod websocket;

use bytes::Bytes;

/// The channels, by the numbers they have over WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// What the command reads.
    Stdin = 0,
    /// What it prints.
    Stdout = 1,
    /// What it complains of; with a terminal that is printed too.
    Stderr = 2,
    /// How it ended; see [`crate::status`].
    Error = 3,
    /// The terminal's sizes: `{"Width": 80, "Height": 24}`, one after another.
    Resize = 4,
}

impl Channel {
    const ALL: [Self; 5] = [Self::Error, Self::Stdin, Self::Stdout, Self::Stderr, Self::Resize];

    /// The channel of this number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| *channel as u8 == number)
    }

    /// As the header `streamType` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }

    /// The channel of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// What passes on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes.
    Data(Channel, Bytes),
    /// Nothing more.
    End(Channel),
}

/// Which channels a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never with a terminal.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

impl Streams {
    /// Those that are there, in the order in which upstream's client opens them.
    pub fn channels(self) -> impl Iterator<Item = Channel> {
        Channel::ALL.into_iter().filter(move |channel| match channel {
            Channel::Stdin => self.stdin,
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr && !self.tty,
            Channel::Error => true,
            Channel::Resize => self.tty,
        })
    }
}

/// How much an error channel may say, in bytes; the rest is dropped.
pub const MAX_ERROR: usize = 64 << 10;

#[cfg(test)]
mod tests;
