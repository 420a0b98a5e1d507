//! Waiting with an end: looks again and again, says how long it has been, and gives up at a limit.
//!
//! Owns the pauses and the words of waiting; what is waited for is the caller's affair.

use std::io;
use std::time::{Duration, Instant};

use crate::ctl::terminal::Terminal;

/// First pause; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A look at the very end of a wait must still be answered: its answer says what to tell the person.
const COMMAND_LEAST: Duration = Duration::from_secs(10);

/// A shorter wait is over before anybody has read what it is about.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Between two lines about the same wait where no terminal shows them in place.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// One wait. Every retry of one order shares it, so that the whole has one limit.
#[derive(Debug)]
pub struct Patience {
    started: Instant,
    limit: Duration,
    pause: Duration,
    said: Duration,
}

impl Patience {
    /// A wait that begins now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { started: Instant::now(), limit, pause: FIRST_PAUSE, said: Duration::ZERO }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Pauses before another look, telling the person what is waited for; false once the limit has passed.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub async fn again(&mut self, what: &str, terminal: &mut Terminal) -> io::Result<bool> {
        let waited = self.started.elapsed();
        if waited >= self.limit {
            return Ok(false);
        }
        if waited >= WORTH_A_LINE {
            self.say(what, terminal)?;
        }
        tokio::time::sleep(self.pause.min(self.limit - waited)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(true)
    }

    /// Like [`Patience::again`] for a command that began at `since` and ends by itself: after a short pause that does not
    /// grow. Whatever the limit, a command is given [`COMMAND_LEAST`].
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub async fn soon(&mut self, since: Instant, what: &str, terminal: &mut Terminal) -> io::Result<bool> {
        let ran = since.elapsed();
        if self.started.elapsed() >= self.limit && ran >= COMMAND_LEAST {
            return Ok(false);
        }
        // What answers at once is not worth a line.
        if ran >= WORTH_A_LINE {
            self.say(what, terminal)?;
        }
        tokio::time::sleep(FIRST_PAUSE).await;
        Ok(true)
    }

    fn say(&mut self, what: &str, terminal: &mut Terminal) -> io::Result<()> {
        let waited = self.started.elapsed();
        let line = format!("{what}: {} s of at most {} s", waited.as_secs(), self.limit.as_secs());
        terminal.show_transient(&line)?;
        if !terminal.err_is_terminal && waited.saturating_sub(self.said) >= SAY_EVERY {
            self.said = waited;
            terminal.say(&line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_at_its_limit() {
        let mut terminal = Terminal::of_process();
        let mut patience = Patience::new(Duration::from_millis(50));
        let mut looks = 0;
        while patience.again("nothing", &mut terminal).await.unwrap() {
            looks += 1;
        }
        assert!((1..=4).contains(&looks), "{looks}");
        assert!(!Patience::new(Duration::ZERO).again("nothing", &mut terminal).await.unwrap());
    }
}
