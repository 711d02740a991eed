//! `bosun-cni`: run by a container runtime, not by people. See the library.

use std::{
    io::{self, Write},
    panic,
    process::ExitCode,
};

use bosun_cni::answer::{self, CniError, Code, Output};

fn main() -> ExitCode {
    let output = match bosun_cni::bound_process() {
        Ok(()) => panic::catch_unwind(|| bosun_cni::run(&|name| std::env::var_os(name), &mut io::stdin().lock()))
            .unwrap_or_else(|_| failure("bosun-cni met a defect of its own; its standard error tells where")),
        Err(e) => failure(&format!("cannot bound the time of this call: {e}")),
    };
    ExitCode::from(print(&output).map_or(1, |()| output.status))
}

fn failure(message: &str) -> Output {
    answer::failure(None, &CniError::new(Code::Io, message))
}

fn print(output: &Output) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if let Some(text) = output.text() {
        stdout.write_all(text.as_bytes())?;
    }
    stdout.flush()
}
