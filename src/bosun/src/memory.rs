//! How the allocator behaves.

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
