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
