//! [`Managed`]: a containerd of our own, beside whatever else runs on the machine.
//!
//! It has its own directories, socket and configuration, outlives us, and its containers outlive it. While we live,
//! its death is noticed at once and it is started again; when we start, one that runs already is taken over.
//!
//! ```text
//! start | keep ──▶ adopt (pid file, else /proc: `--config OUR FILE`), else spawn
//!                    ▲                                        │
//!                    └── back-off ◀── its end, by pidfd ◀─────┴──▶ watch: ManagedState
//! ```
//!
//! A containerd is ours when it was started with our configuration file, and nothing else is ever signalled.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    CriClient, Runtime,
    task::{self, Task},
};

mod config;
mod process;
mod recovery;
mod remains;
mod teardown;

use config::{Allowed, OLDEST, Version};
use process::Process;

/// A log beyond this is put aside at the next start, in place of the one put aside before.
const LOG_LIMIT: u64 = 16 << 20;

/// Between a death and the next start: the first time and at most. Nothing if it had run for [`STEADY`].
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A containerd that ran this long did not die of its configuration: somebody killed it, and wants it back.
const STEADY: Duration = Duration::from_secs(1);

/// How often in a row containerd is started once more over what it lost when it started.
const MENDED_AT_MOST: u32 = 3;

/// How long containerd may take to end in order.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// `containerd --version` touches nothing.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// The kernel's limit for a socket's path, with room for containerd's suffix.
const SOCKET_PATH_LIMIT: usize = 100;

/// Where a managed containerd keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedConfig {
    /// The program; without a slash it is searched for in `PATH`.
    pub program: PathBuf,
    /// What must outlive a reboot: images, snapshots, metadata.
    pub root: PathBuf,
    /// What must not outlive a reboot: running containers' bundles, mounts, the configuration file.
    pub state: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// Where CNI's network configuration is found.
    pub cni_conf_dir: PathBuf,
    /// Where CNI's plugins are found.
    pub cni_bin_dir: PathBuf,
    /// The image of the sandboxes' own process; it must be imported, or available to a pull.
    pub sandbox_image: String,
    /// What it prints. Bounded at each start.
    pub log_file: PathBuf,
}

impl ManagedConfig {
    /// Where a client finds it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn config_file(&self) -> PathBuf {
        self.state.join("config.toml")
    }

    fn pid_file(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }
}

/// Why containerd can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// There is no such program.
    #[error("{} was not found: install containerd (Debian: apt-get install containerd) or name its program", .program.display())]
    NotInstalled {
        /// As configured.
        program: PathBuf,
    },
    /// It does not say a version we know.
    #[error("{} is too old or unknown: containerd {}.{} or later is needed, and it says {says:?}", .program.display(), OLDEST.major, OLDEST.minor)]
    Version {
        /// The program.
        program: PathBuf,
        /// What it printed.
        says: String,
    },
    /// A path that can't be put into a configuration file or is too long for a socket.
    #[error(
        "the path {path:?} can't be used: it must be absolute, in UTF-8, and a socket's at most {SOCKET_PATH_LIMIT} bytes long"
    )]
    Path {
        /// As configured.
        path: PathBuf,
    },
    /// A file or directory of containerd's can't be made or read.
    #[error("can't {action} {}", .path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program can't be run.
    #[error("can't run {}", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Some of what was to be taken down is still there.
    #[error("containerd's {} could not be taken down wholly: {}", .state.display(), .left.join("; "))]
    Left {
        /// Its state directory.
        state: PathBuf,
        /// What is left, each with the reason.
        left: Vec<String>,
    },
}

/// How a managed containerd fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedState {
    /// It runs.
    Running {
        /// Its process.
        pid: u32,
    },
    /// It does not, and will be started again.
    Down {
        /// Why, for a person.
        reason: String,
    },
}

/// A containerd that is kept running. Dropped, it goes on, unsupervised.
#[derive(Debug)]
pub struct Managed {
    config: Arc<ManagedConfig>,
    state: watch::Receiver<ManagedState>,
    supervisor: Task,
}

impl Managed {
    /// Takes over the containerd of this configuration, or starts it, and keeps it running from then on. Does not
    /// wait until it answers: a client gets `Unavailable` until then. Must be called within a tokio runtime.
    pub async fn start(config: ManagedConfig) -> Result<Self, ManagedError> {
        let process = adopt_or_spawn(&config).await?;
        let state = ManagedState::Running { pid: process.pid };
        Ok(Self::supervised(config, Some(process), state))
    }

    /// The same, but what keeps it from being started now is tried again until it is mended: [`Self::state`] says
    /// what that is. Must be called within a tokio runtime.
    pub fn keep(config: ManagedConfig) -> Self {
        let state = ManagedState::Down {
            reason: "containerd is being started".to_owned(),
        };
        Self::supervised(config, None, state)
    }

    fn supervised(config: ManagedConfig, process: Option<Process>, state: ManagedState) -> Self {
        let config = Arc::new(config);
        let (state_tx, state) = watch::channel(state);
        let supervisor = task::spawn(supervise(config.clone(), process, state_tx));
        Self {
            config,
            state,
            supervisor,
        }
    }

    /// Where a client finds it.
    pub fn endpoint(&self) -> String {
        self.config.endpoint()
    }

    /// How it fares, now and from now on.
    pub fn state(&self) -> watch::Receiver<ManagedState> {
        self.state.clone()
    }

    /// Stops all its containers and itself and removes what both left at run time; images stay. Safe to repeat.
    pub async fn stop(self) -> Result<(), ManagedError> {
        let Self {
            config,
            state: _,
            supervisor,
        } = self;
        drop(supervisor);
        tear_down(&config).await
    }
}

/// What [`Managed::stop`] does, for a containerd that nobody supervises (any more).
pub async fn tear_down(config: &ManagedConfig) -> Result<(), ManagedError> {
    if let Some(process) = adopt(config)? {
        remove_sandboxes(config).await;
        process.end(STOP_GRACE).await;
    }
    teardown::run(config).await
}

/// While containerd still runs it can do this best: CNI is called for each pod.
async fn remove_sandboxes(config: &ManagedConfig) {
    const DEADLINE: Duration = Duration::from_mins(1);
    let Ok(client) = CriClient::connect(&config.endpoint()) else {
        return;
    };
    let all = async {
        let sandboxes = client.list_sandboxes(None).await?;
        let each = sandboxes.iter().map(|sandbox| async {
            let id = sandbox.id.as_str().into();
            client.stop_sandbox(&id).await?;
            client.remove_sandbox(&id).await
        });
        futures_util::future::join_all(each)
            .await
            .into_iter()
            .collect::<Result<(), _>>()
    };
    match timeout(DEADLINE, all).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "not every sandbox could be removed in order, killing the rest"),
        Err(_) => warn!("removing all sandboxes took too long, killing the rest"),
    }
}

/// Starts containerd again whenever it ends; `process` is `None` before the first start.
async fn supervise(config: Arc<ManagedConfig>, mut process: Option<Process>, state: watch::Sender<ManagedState>) {
    let mut wait = Duration::ZERO;
    let mut mended = 0;
    loop {
        let running = match process.take() {
            Some(process) => process,
            None => match adopt_or_spawn(&config).await {
                Ok(process) => process,
                Err(error) => {
                    wait = (wait * 2).clamp(BACK_OFF.0, BACK_OFF.1);
                    let reason = chain(&error);
                    warn!(%reason, again_in = ?wait, "containerd can't be started");
                    state.send_replace(ManagedState::Down { reason });
                    sleep(wait).await;
                    continue;
                }
            },
        };
        let pid = running.pid;
        info!(pid, socket = %config.socket.display(), "containerd runs");
        state.send_replace(ManagedState::Running { pid });
        let since = Instant::now();
        let sweep = {
            let config = config.clone();
            task::spawn(async move { remains::sweep(&config).await })
        };
        let how = until_its_end(&config, &running, &mut mended).await;
        drop(sweep);
        wait = if since.elapsed() >= STEADY {
            Duration::ZERO
        } else {
            (wait * 2).clamp(BACK_OFF.0, BACK_OFF.1)
        };
        let reason = format!(
            "containerd (process {pid}) is gone: {how}; its log is {}",
            config.log_file.display()
        );
        warn!(%reason, again_in = ?wait, "containerd is down");
        state.send_replace(ManagedState::Down { reason });
        sleep(wait).await;
    }
}

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Who was started, in the pid file.
#[derive(Serialize, Deserialize)]
struct PidFile {
    pid: u32,
    /// As [`Process::start_time`].
    start_time: u64,
}

/// Waits for the end of containerd, and brings it about if it started badly; `mended` counts how often in a row.
async fn until_its_end(config: &ManagedConfig, running: &Process, mended: &mut u32) -> String {
    let lost = async {
        match CriClient::connect(&config.endpoint()) {
            Ok(client) => recovery::lost_exits(&client).await,
            Err(_) => BTreeSet::new(),
        }
    };
    let lost = tokio::select! {
        how = running.ended() => return how,
        lost = lost => lost,
    };
    if lost.is_empty() {
        *mended = 0;
    } else if *mended < MENDED_AT_MOST {
        *mended += 1;
        warn!(
            ?lost,
            "containerd missed the end of containers while it started, starting it once more"
        );
        running.end(STOP_GRACE).await;
    } else {
        error!(
            ?lost,
            "containerd does not note the end of containers, however often it is started: see its log"
        );
    }
    running.ended().await
}

async fn adopt_or_spawn(config: &ManagedConfig) -> Result<Process, ManagedError> {
    match adopt(config)? {
        Some(process) => Ok(process),
        None => spawn(config).await,
    }
}

/// The containerd that was started with our configuration file, if it runs.
fn adopt(config: &ManagedConfig) -> Result<Option<Process>, ManagedError> {
    let path = config.pid_file();
    let read = |source| ManagedError::File {
        action: "read",
        path: path.clone(),
        source,
    };
    let known: Option<PidFile> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(read(error)),
    };
    let file = config.config_file();
    // With these arguments and no others: `containerd --config FILE config dump` is a person's.
    let is_ours =
        |pid| matches!(&process::arguments(pid)[..], [_, flag, value] if flag == "--config" && **value == *file);
    // Looked at once more when it is held: the number may have changed hands in between.
    let ours = |pid: u32| -> io::Result<Option<Process>> {
        if is_ours(pid) {
            Ok(Process::open(pid)?.filter(|_| is_ours(pid)))
        } else {
            Ok(None)
        }
    };
    if let Some(known) = known
        && let Some(process) = ours(known.pid).map_err(read)?
        && process.start_time == known.start_time
    {
        return Ok(Some(process));
    }
    // We may have died between its start and the writing of the file.
    for pid in process::all().map_err(read)? {
        if let Some(process) = ours(pid).map_err(read)? {
            debug!(pid, "containerd found without its pid file");
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// Starts containerd, detached from us.
async fn spawn(config: &ManagedConfig) -> Result<Process, ManagedError> {
    let program = find_program(&config.program)?;
    let version = version_of(&program).await?;
    if config.socket.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(ManagedError::Path {
            path: config.socket.clone(),
        });
    }
    let allowed = Allowed::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let text = config::render(config, version, allowed)?;

    let log_dir = config.log_file.parent().unwrap_or(Path::new("/"));
    let socket_dir = config.socket.parent().unwrap_or(Path::new("/"));
    for dir in [&config.root, &config.state, log_dir, socket_dir] {
        fs::create_dir_all(dir).map_err(|source| ManagedError::File {
            action: "make",
            path: dir.into(),
            source,
        })?;
    }
    write(&config.config_file(), text.as_bytes())?;
    let log = open_log(&config.log_file)?;

    let failed = |source| ManagedError::Spawn {
        program: program.clone(),
        source,
    };
    let errors = log.try_clone().map_err(failed)?;
    let child = detached(&program)
        .arg("--config")
        .arg(config.config_file())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    let gone = || failed(io::Error::other("it ended at once"));
    let process = Process::open(child.id()).map_err(failed)?.ok_or_else(gone)?;
    let identity = PidFile {
        pid: process.pid,
        start_time: process.start_time,
    };
    let identity = serde_json::to_vec(&identity).map_err(|e| failed(e.into()))?;
    write(&config.pid_file(), &identity)?;
    Ok(process)
}

/// A command that shares neither terminal nor session nor service notification with us.
#[expect(clippy::disallowed_methods, reason = "this module owns containerd's process")]
#[expect(
    unsafe_code,
    reason = "setsid is safe to call between fork and exec: one system call, no memory"
)]
fn detached(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    // These name sockets and files that are ours: containerd would report itself ready in our place.
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
    ] {
        command.env_remove(name);
    }
    if env::var_os("PATH").is_none() {
        command.env("PATH", DEFAULT_PATH);
    }
    // SAFETY: the closure makes one async-signal-safe system call and allocates nothing.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    command
}

/// Where programs are searched for when we were started without any environment.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn find_program(program: &Path) -> Result<PathBuf, ManagedError> {
    let not_installed = || ManagedError::NotInstalled {
        program: program.to_owned(),
    };
    if program.as_os_str().as_bytes().contains(&b'/') {
        return if program.is_file() {
            Ok(program.to_owned())
        } else {
            Err(not_installed())
        };
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsStr::new(DEFAULT_PATH).to_owned());
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|found| found.is_file())
        .ok_or_else(not_installed)
}

async fn version_of(program: &Path) -> Result<Version, ManagedError> {
    let failed = |source| ManagedError::Spawn {
        program: program.to_owned(),
        source,
    };
    let mut command = tokio::process::Command::from(detached(program));
    let output = command.arg("--version").kill_on_drop(true).output();
    let output = timeout(VERSION_DEADLINE, output)
        .await
        .map_err(|e| failed(e.into()))?
        .map_err(failed)?;
    let says = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = Version::parse(&says).filter(|version| *version >= OLDEST);
    version.ok_or_else(|| ManagedError::Version {
        program: program.to_owned(),
        says,
    })
}

/// Writes a file whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), ManagedError> {
    let partial = path.with_extension("partial");
    fs::write(&partial, content)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| ManagedError::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
}

fn open_log(path: &Path) -> Result<File, ManagedError> {
    let failed = |source| ManagedError::File {
        action: "open",
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        fs::rename(path, aside).map_err(failed)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(failed)
}
