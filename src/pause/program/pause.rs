//! The pause program: the first process of a pod sandbox, there to hold the pod's namespaces.
//!
//! It reaps what is orphaned when the pod shares its PID namespace, and ends on SIGTERM or SIGINT. It is built by
//! `build.rs` without the standard library and without a C library, speaks to the kernel alone and touches nothing
//! but its stack: a node runs one for every pod.
//!
//! There is no signal handler and so no race with one: every signal is blocked first, and the loop takes the three
//! it cares about one at a time. The kernel queues a blocked signal even for PID 1, whose unhandled signals it
//! otherwise discards.
#![no_std]
#![no_main]

use core::arch::{asm, naked_asm};

#[cfg(target_arch = "x86_64")]
mod call {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod call {
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;

const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;

/// The kernel's signal set: bit `n - 1` stands for signal `n`.
type SignalSet = u64;

static ALL: SignalSet = SignalSet::MAX;
static AWAITED: SignalSet = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);

/// One system call; the result is the kernel's own, negative for an error.
///
/// # Safety
/// The arguments must be what the call `number` expects: pointers valid for as long as it runs.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn syscall(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 system call convention: rcx and r11 are the kernel's to spoil, the stack is untouched.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// One system call; the result is the kernel's own, negative for an error.
///
/// # Safety
/// The arguments must be what the call `number` expects: pointers valid for as long as it runs.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn syscall(number: usize, args: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the arm64 system call convention: only x0 changes, the stack is untouched.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3],
            options(nostack),
        );
    }
    result
}

fn block_all_signals() {
    // SAFETY: `ALL` lives as long as the program; no old set is asked for.
    unsafe {
        syscall(
            call::RT_SIGPROCMASK,
            [SIG_SETMASK, &raw const ALL as usize, 0, size_of::<SignalSet>()],
        )
    };
}

/// Waits for one of the awaited signals; a negative result is an interruption (a stop and continue, a debugger).
fn next_signal() -> isize {
    // SAFETY: `AWAITED` lives as long as the program; neither details nor a timeout are asked for.
    unsafe {
        syscall(
            call::RT_SIGTIMEDWAIT,
            [&raw const AWAITED as usize, 0, 0, size_of::<SignalSet>()],
        )
    }
}

/// Reaps one ended child, if there is one.
fn reap() -> bool {
    // SAFETY: no status and no usage are asked for, so the kernel writes nothing.
    unsafe { syscall(call::WAIT4, [ANY_CHILD, 0, WNOHANG, 0]) > 0 }
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: takes a number and does not return.
        unsafe { syscall(call::EXIT_GROUP, [status, 0, 0, 0]) };
    }
}

extern "C" fn pause() -> ! {
    block_all_signals();
    loop {
        match next_signal() {
            SIGINT | SIGTERM => exit(0),
            // Several children may have ended behind one SIGCHLD.
            _ => while reap() {},
        }
    }
}

/// Where the kernel enters: no return address is on the stack, so no ordinary function may stand here.
///
/// # Safety
/// Entered by the kernel, once.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "call {pause}", "ud2", pause = sym pause);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x30, xzr", "b {pause}", pause = sym pause);
}

/// Nothing here panics; the language wants an answer to what would happen.
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(1)
}
