//! Waiting for a condition by asking again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls `condition` until it holds; an error that names `what` once `timeout` has passed.
///
/// The pause between two questions grows from 1 ms to 50 ms, so that fast things are seen fast and slow ones cost nothing.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if condition() {
            return Ok(());
        }
        if start.elapsed() >= timeout {
            bail!(
                "waited {:.1} s in vain: {what}",
                start.elapsed().as_secs_f64()
            );
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_when_the_condition_holds() {
        let mut asked = 0;
        let result = wait_until("the third question", Duration::from_secs(5), || {
            asked += 1;
            asked == 3
        });
        assert!(result.is_ok());
        assert_eq!(asked, 3);
    }

    #[test]
    fn names_what_never_came() {
        let result = wait_until("godot", Duration::from_millis(5), || false);
        assert!(result.is_err_and(|error| error.to_string().contains("godot")));
    }
}
