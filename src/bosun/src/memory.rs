//! How the allocator behaves.

use std::{fs, time::Duration};

/// Between two looks at how much the process holds.
const LOOK: Duration = Duration::from_secs(10);
/// So many bytes more than after the last time are worth giving back what is free among them.
const WORTH: u64 = 8 << 20;

/// Gives memory back whenever the process holds noticeably more than it needed last: a burst of requests leaves the
/// allocator with much that it would keep for the next one.
pub(crate) async fn keep_low() {
    let mut needed = resident();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let held = resident();
        if held > needed + WORTH {
            give_back();
            needed = resident();
        } else {
            needed = needed.min(held);
        }
    }
}

/// What the process holds in memory, in bytes; 0 where that can't be told.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE
}

/// Lets all threads share two arenas: left alone, glibc gives each of many threads its own, and what is freed in one
/// is of no use to another.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate wraps mallopt")]
pub(crate) fn cap_arenas() {
    // SAFETY: mallopt only sets a number, here before any other thread runs. It may refuse; nothing depends on it.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Other allocators have no such habit.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn cap_arenas() {}

/// Gives what is free back to the system: after a start or a large piece of work, most of what it took.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate wraps malloc_trim")]
pub(crate) fn give_back() {
    // SAFETY: malloc_trim may be called by any thread at any time; it locks the arenas one by one.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
