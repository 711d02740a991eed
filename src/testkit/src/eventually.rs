//! Waiting for a value, with a deadline.

use std::time::{Duration, Instant};

/// How long a test waits for what should happen soon: long, because other tests share the machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(25);

/// Looks again and again until `check` succeeds, and returns its value.
///
/// # Panics
/// After `within`, with what was waited for and what was seen instead.
pub async fn eventually<T>(within: Duration, what: &str, mut check: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
    let start = Instant::now();
    loop {
        let seen = match check().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(
            start.elapsed() < within,
            "not within {within:?}: {what}\nlast seen: {seen:#}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_the_first_good_value() {
        let mut looks = 0;
        let value = eventually(PATIENCE, "three looks", async || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                anyhow::bail!("{looks} looks")
            }
        });
        assert_eq!(value.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: nothing yet")]
    async fn past_its_deadline_it_says_what_was_seen() {
        eventually::<()>(Duration::from_millis(30), "something", async || {
            anyhow::bail!("nothing yet")
        })
        .await;
    }
}
