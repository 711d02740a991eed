//! A bound on a whole process that may block where no call takes a timeout: reading its input, a lock, a file system.

use std::{
    io,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
    time::Duration,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static LAST_WORDS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Ends this process after `limit` with status 1 and these words on its standard output. Nothing is cleaned up: what
/// is left is what a killed process would have left.
#[allow(
    unsafe_code,
    reason = "no crate offers alarm() with a handler; the handler makes only async-signal-safe calls"
)]
pub fn bound_process(limit: Duration, last_words: &'static str) -> io::Result<()> {
    LENGTH.store(last_words.len(), Ordering::SeqCst);
    LAST_WORDS.store(last_words.as_ptr().cast_mut(), Ordering::SeqCst);
    let action = SigAction::new(SigHandler::Handler(expire), SaFlags::empty(), SigSet::empty());
    // SAFETY: `expire` only reads two atomics and calls write and _exit, which are async-signal-safe.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    // The mask is inherited: whoever started us may have blocked it.
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    // SAFETY: alarm has no preconditions.
    unsafe { libc::alarm(limit.as_secs().max(1) as libc::c_uint) };
    Ok(())
}

#[allow(unsafe_code, reason = "write and _exit are what a signal handler may call")]
extern "C" fn expire(_: libc::c_int) {
    // SAFETY: the words are 'static and their length was stored before the handler was installed.
    unsafe {
        libc::write(
            1,
            LAST_WORDS.load(Ordering::SeqCst).cast(),
            LENGTH.load(Ordering::SeqCst),
        );
        libc::_exit(1);
    }
}
