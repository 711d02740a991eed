//! Says what was done, how long it took, and what is being waited for while it takes long.

use std::{sync::Mutex, time::Duration};

use tokio::time::{Instant, sleep_until};

/// A step that takes longer than this says so, and what it waits for, and again each time it has taken as long anew.
const LONG: Duration = Duration::from_secs(2);

/// Takes the lines, without their ends.
type Say = Box<dyn Fn(&str) + Send + Sync>;

/// Tells a person of the steps of a command.
pub struct Progress {
    say: Say,
    started: Instant,
}

/// What a step waits for, told if it takes long.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<String>);

impl Waiting {
    /// Says what is being waited for from now on.
    pub fn on(&self, what: impl Into<String>) {
        if let Ok(mut text) = self.0.lock() {
            *text = what.into();
        }
    }

    fn text(&self) -> String {
        self.0.lock().map(|text| text.clone()).unwrap_or_default()
    }
}

impl Progress {
    /// Each line goes to `say`.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            say: Box::new(say),
            started: Instant::now(),
        }
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says a line.
    pub fn say(&self, line: &str) {
        (self.say)(line);
    }

    /// Does a step, and says that it is done.
    pub async fn step<T>(
        &self,
        title: &str,
        work: impl AsyncFnOnce(&Waiting) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        let seconds = || start.elapsed().as_secs_f64();
        let waiting = Waiting::default();
        let work = work(&waiting);
        tokio::pin!(work);
        let mut next = start + LONG;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut work => break outcome,
                () = sleep_until(next) => {
                    let on = waiting.text();
                    let on = if on.is_empty() { String::new() } else { format!(": {on}") };
                    self.say(&format!("  … {title}  {:.0} s{on}", seconds()));
                    next = Instant::now() + (Instant::now() - start).max(LONG);
                }
            }
        };
        let mark = if outcome.is_ok() { '✓' } else { '✗' };
        self.say(&format!("  {mark} {title}  {:.1} s", seconds()));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::sleep;

    use super::*;

    async fn said(seconds: u64, good: bool) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let progress = Progress::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let outcome = progress.step("starting", async |waiting| {
            waiting.on("the dawn");
            sleep(Duration::from_secs(seconds)).await;
            anyhow::ensure!(good, "dark");
            Ok(())
        });
        assert_eq!(outcome.await.is_ok(), good);
        lines.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_says_what_it_waits_for_ever_more_seldom() {
        assert_eq!(said(1, true).await, ["  ✓ starting  1.0 s"]);
        assert_eq!(
            said(9, false).await,
            [
                "  … starting  2 s: the dawn",
                "  … starting  4 s: the dawn",
                "  … starting  8 s: the dawn",
                "  ✗ starting  9.0 s"
            ]
        );
    }
}
