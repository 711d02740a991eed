//! [`FakeRuntime`]: containers without containers, with the behaviour of CRI on containerd as far as a caller can
//! see it. The contract tests hold it to that.
//!
//! Everything that takes time takes tokio's time, so a test with paused time runs at once and the same way each time.
//! What a test does to the fake ([`FakeRuntime::exit`], [`FakeRuntime::inject`] and so on) happens at once.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bosun_api::{ContainerId, SandboxId};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    ErrorKind, ExecOutput, RuntimeEvent,
    client::{READ_DEADLINE, REMOVE_DEADLINE},
    events::{FanOut, Hub},
    runtime::{Error, Result},
    task,
};

mod calls;
mod faults;
mod world;

pub use faults::Fault;
use faults::Faults;
use world::{Now, Refusal, World};

/// How long after an exit containerd's status still says "running".
const STATUS_LAG: Duration = Duration::from_millis(40);

/// How long the name of a call that was cut off stays reserved: containerd undoes what it had begun, then lets go.
const RESERVED_AFTER_CUT_OFF: Duration = Duration::from_secs(2);

/// How the main process of a container behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// It ends by itself after this time, with this exit code.
    pub exit_after: Option<(Duration, i32)>,
    /// It does not end when told to, only when killed. Else it ends at once, with code 143.
    pub ignores_term: bool,
    /// It can't be started at all, for this reason.
    pub start_error: Option<String>,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// CRI's name of the call, such as `RunPodSandbox`.
    pub name: &'static str,
    /// The id or name of the object it was about.
    pub object: String,
    /// When, on tokio's clock.
    pub at: Instant,
}

/// What a command in a container does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecReply {
    /// How long it takes.
    pub after: Duration,
    /// What it prints and returns then.
    pub output: ExecOutput,
}

type Completion = dyn FnOnce(&mut World, Now) + Send;

type OnExec = dyn Fn(&ContainerId, &[String]) -> ExecReply + Send + Sync;

/// A runtime in memory. Cloning shares it.
#[derive(Clone, Debug)]
pub struct FakeRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    events: Arc<Hub>,
    /// What calls under way wait for or are broken by.
    gate: watch::Sender<Gate>,
    /// Told of every change of the world.
    changed: watch::Sender<()>,
    started: (Instant, Timestamp),
    /// No two moments are the same, as on a real clock.
    last: Mutex<Timestamp>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRuntime").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Gate {
    released: u64,
    gone: bool,
}

struct State {
    world: World,
    faults: Faults,
    calls: Vec<Call>,
    on_exec: Arc<OnExec>,
    streaming: Option<String>,
    network_ready: bool,
    events_broken: bool,
    cut_off_completes: bool,
}

impl State {
    fn stream_url(&self, kind: &str, id: &str) -> std::result::Result<String, Refusal> {
        let base = self.streaming.as_ref().map(|base| format!("{base}/{kind}/{id}"));
        base.ok_or_else(|| (ErrorKind::Unimplemented, "no streaming server stands in".to_owned()))
    }
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test does to the runtime.
impl FakeRuntime {
    /// An empty runtime.
    pub fn new() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// An empty runtime whose wall clock says `time` now and then goes by tokio's clock.
    pub fn starting_at(time: Timestamp) -> Self {
        let state = State {
            world: World::new(STATUS_LAG),
            faults: Faults::default(),
            calls: Vec::new(),
            on_exec: Arc::new(|_, _| ExecReply::default()),
            streaming: None,
            network_ready: true,
            events_broken: false,
            cut_off_completes: false,
        };
        let inner = Inner {
            state: Mutex::new(state),
            events: Arc::default(),
            gate: watch::Sender::default(),
            changed: watch::Sender::default(),
            started: (Instant::now(), time),
            last: Mutex::new(time),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes an image present, without a pull.
    pub fn add_image(&self, name: &str) {
        let name = crate::images::full_name(name).expect("a test's image name is one");
        self.lock().world.add_image(&name);
    }

    /// Makes an image available to [`crate::Runtime::pull_image`].
    pub fn serve_image(&self, name: &str) {
        let name = crate::images::full_name(name).expect("a test's image name is one");
        self.lock().world.registry.insert(name);
    }

    /// How containers of this name behave, those created from now on.
    pub fn script(&self, container_name: &str, script: Script) {
        self.lock().world.scripts.insert(container_name.to_owned(), script);
    }

    /// What commands in containers do.
    pub fn on_exec(&self, reply: impl Fn(&ContainerId, &[String]) -> ExecReply + Send + Sync + 'static) {
        self.lock().on_exec = Arc::new(reply);
    }

    /// The base of the URLs at which a server of the test's own stands in for the runtime's: `…/exec/<container>`,
    /// `…/attach/<container>`, `…/portforward/<sandbox>`.
    pub fn stream_at(&self, base: &str) {
        self.lock().streaming = Some(base.to_owned());
    }

    /// The main process of a running container ends.
    pub fn exit(&self, id: &ContainerId, code: i32) {
        self.change(|world, now| world.exit(id, code, false, now));
    }

    /// The kernel kills a running container for want of memory.
    pub fn kill_for_memory(&self, id: &ContainerId) {
        self.change(|world, now| world.exit(id, 137, true, now));
    }

    /// The sandbox's own process is killed; its containers go on.
    pub fn kill_sandbox(&self, id: &SandboxId) {
        self.change(|world, now| world.end_sandbox(id, now));
    }

    /// How long an exit takes to appear in a container's status after its event.
    pub fn set_status_lag(&self, lag: Duration) {
        self.lock().world.status_lag = lag;
    }

    /// Whether a creation whose caller went away is completed all the same, rather than undone.
    pub fn set_cut_off_completes(&self, completes: bool) {
        self.lock().cut_off_completes = completes;
    }

    /// The condition `NetworkReady`.
    pub fn set_network_ready(&self, ready: bool) {
        self.lock().network_ready = ready;
    }

    /// A fault for the calls of this name (`RunPodSandbox`), about objects whose id or name contains `object`, for
    /// this many calls or all to come.
    pub fn inject(&self, call: &str, object: Option<&str>, fault: Fault, times: Option<usize>) {
        self.lock().faults.order(call, object, fault, times);
    }

    /// The next call of this name fails.
    pub fn fail_next(&self, call: &str, kind: ErrorKind, message: &str) {
        self.inject(call, None, Fault::Fail(kind, message.to_owned()), Some(1));
    }

    /// Forgets all faults and lets go on what hangs.
    pub fn release(&self) {
        self.lock().faults.clear();
        self.inner.gate.send_modify(|gate| gate.released += 1);
    }

    /// Ends the event stream: what happens from here on is not reported.
    pub fn break_events(&self) {
        self.lock().events_broken = true;
        self.inner.events.with(|fan_out, _| fan_out.broken());
    }

    /// The event stream stands again.
    pub fn mend_events(&self) {
        self.lock().events_broken = false;
        self.inner.events.with(FanOut::stands);
    }

    /// The runtime dies: no call is answered, calls under way break. Its containers go on.
    pub fn go_away(&self) {
        self.break_events();
        self.inner.gate.send_modify(|gate| gate.gone = true);
    }

    /// The runtime is back.
    pub fn come_back(&self) {
        self.inner.gate.send_modify(|gate| gate.gone = false);
        self.mend_events();
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The sandbox a container was created in.
    pub fn sandbox_of(&self, id: &ContainerId) -> Option<SandboxId> {
        self.lock()
            .world
            .containers
            .get(id)
            .map(|container| container.sandbox.clone())
    }
}

/// A name taken for an object that is being made. Dropped before [`Self::keep`], the call was cut off or failed.
struct Reservation<'a> {
    runtime: &'a FakeRuntime,
    id: String,
    /// What completes the creation, should the caller go away.
    complete: Option<Box<Completion>>,
    failed: bool,
    kept: bool,
}

impl Reservation<'_> {
    /// The object is there.
    fn keep(mut self) -> String {
        self.kept = true;
        if let Some(complete) = self.complete.take() {
            let now = self.runtime.now();
            complete(&mut self.runtime.lock().world, now);
        }
        std::mem::take(&mut self.id)
    }

    /// The runtime itself gave up: the name is free at once.
    fn fail(mut self, error: Error) -> Error {
        self.failed = true;
        error
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.failed {
            self.runtime.lock().world.release(&self.id);
            return;
        }
        let (runtime, id, complete) = (self.runtime.clone(), std::mem::take(&mut self.id), self.complete.take());
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        task::spawn_detached(async move {
            sleep(RESERVED_AFTER_CUT_OFF).await;
            let now = runtime.now();
            let mut state = runtime.lock();
            match complete {
                Some(complete) if state.cut_off_completes => complete(&mut state.world, now),
                _ => state.world.release(&id),
            }
        });
    }
}

/// What was ordered to happen to a call, to be suffered at the point where the real one would be at work.
struct Suffering {
    gate: watch::Receiver<Gate>,
    fault: Option<Fault>,
}

impl Suffering {
    async fn pass(mut self) -> std::result::Result<(), Refusal> {
        match self.fault {
            None | Some(Fault::LoseAnswer) => {}
            Some(Fault::Slow(time)) => sleep(time).await,
            Some(Fault::Hang) => {
                let released = self.gate.borrow().released;
                let _ = self.gate.wait_for(|gate| gate.released != released).await;
            }
            Some(Fault::Fail(kind, message)) => return Err((kind, message)),
        }
        Ok(())
    }
}

impl FakeRuntime {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        let (at, (started, time)) = (Instant::now(), self.inner.started);
        let passed = SignedDuration::try_from(at - started).unwrap_or(SignedDuration::ZERO);
        let mut last = self.inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (time + passed).max(*last + SignedDuration::from_nanos(1));
        Now { at, time: *last }
    }

    /// Changes the world and reports what happened.
    fn change(&self, change: impl FnOnce(&mut World, Now) -> Vec<RuntimeEvent>) {
        let now = self.now();
        let mut state = self.lock();
        let events = change(&mut state.world, now);
        self.inner.changed.send_replace(());
        if !state.events_broken {
            self.inner
                .events
                .with(|fan_out, at| events.iter().for_each(|event| fan_out.deliver(event, at)));
        }
    }

    /// One call: written down, at most for `deadline`, broken off if the runtime dies under it.
    async fn call<T, W>(
        &self,
        call: &'static str,
        object: &str,
        deadline: Duration,
        work: impl FnOnce(Suffering) -> W + Send,
    ) -> Result<T>
    where
        W: Future<Output = Result<T>> + Send,
    {
        let fault = {
            let mut state = self.lock();
            state.calls.push(Call {
                name: call,
                object: object.to_owned(),
                at: Instant::now(),
            });
            state.faults.take(call, object)
        };
        let lost = fault == Some(Fault::LoseAnswer);
        let work = work(Suffering {
            gate: self.inner.gate.subscribe(),
            fault,
        });
        let error = |kind, message: &str| Error {
            call,
            object: object.to_owned(),
            kind,
            message: message.to_owned(),
        };
        let unavailable = || {
            error(
                ErrorKind::Unavailable,
                "the runtime does not answer: Connection refused",
            )
        };
        let mut gate = self.inner.gate.subscribe();
        let gone = async {
            let _ = gate.wait_for(|gate| gate.gone).await;
        };
        tokio::select! {
            biased;
            () = gone => Err(unavailable()),
            done = timeout(deadline, work) => match done {
                Ok(Ok(_)) if lost => Err(unavailable()),
                Ok(done) => done,
                Err(_) => Err(error(ErrorKind::DeadlineExceeded, "no answer from the runtime in time")),
            },
        }
    }

    fn reserve(&self, what: &str, name: &str) -> std::result::Result<Reservation<'_>, Refusal> {
        let id = self.lock().world.reserve(what, name)?;
        Ok(Reservation {
            runtime: self,
            id,
            complete: None,
            failed: false,
            kept: false,
        })
    }

    /// A call that asks where a container's processes can be talked to.
    async fn stream_into(&self, call: &'static str, kind: &str, id: &ContainerId) -> Result<String> {
        self.read(call, id.as_str(), |state, _| {
            let container = state.world.container(id)?;
            if !container.is_running() {
                let message = format!("container {} is not running", container.name());
                return Err((ErrorKind::Failed, message));
            }
            state.stream_url(kind, id.as_str())
        })
        .await
    }

    /// A call that only looks.
    async fn read<T: Send>(
        &self,
        call: &'static str,
        object: &str,
        read: impl FnOnce(&State, Now) -> std::result::Result<T, Refusal> + Send,
    ) -> Result<T> {
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused(call, object))?;
            let now = self.now();
            read(&self.lock(), now).map_err(refused(call, object))
        };
        self.call(call, object, READ_DEADLINE, work).await
    }

    /// A call that takes something away.
    async fn take_away(
        &self,
        call: &'static str,
        object: &str,
        change: impl FnOnce(&mut World, Now) -> Vec<RuntimeEvent> + Send,
    ) -> Result<()> {
        let work = |fault: Suffering| async {
            fault.pass().await.map_err(refused(call, object))?;
            self.change(change);
            Ok(())
        };
        self.call(call, object, REMOVE_DEADLINE, work).await
    }
}

fn refused(call: &'static str, object: &str) -> impl FnOnce(Refusal) -> Error {
    let object = object.to_owned();
    move |(kind, message)| Error {
        call,
        object,
        kind,
        message,
    }
}

fn invalid(message: &str) -> Refusal {
    (ErrorKind::InvalidArgument, message.to_owned())
}
