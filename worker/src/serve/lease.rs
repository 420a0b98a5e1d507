//! The lease: a worker that hears from no daemon for long enough ends by itself.
//!
//! Owns the time of the last contact. Time is a monotonic clock that stops while the machine sleeps, so a closed lid
//! ends nobody.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// How often a worker whose lease is over, and which still works, looks whether it has finished.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When the daemon was last heard.
#[derive(Debug)]
pub struct Lease {
    started: Instant,
    last_contact_ms: AtomicU64,
}

impl Default for Lease {
    fn default() -> Self {
        Self { started: Instant::now(), last_contact_ms: AtomicU64::new(0) }
    }
}

impl Lease {
    /// The daemon asked for something.
    pub(crate) fn renew(&self) {
        self.last_contact_ms.fetch_max(self.now_ms(), Relaxed);
    }

    /// Returns once nothing was heard for `length` and `is_idle` holds.
    pub async fn expired(&self, length: Duration, is_idle: impl Fn() -> bool) {
        loop {
            let silent = Duration::from_millis(self.now_ms().saturating_sub(self.last_contact_ms.load(Relaxed)));
            match length.checked_sub(silent) {
                Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
                _ if is_idle() => return,
                // What runs is finished first.
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
impl Lease {
    /// One that began a moment ago and was never renewed.
    pub(super) fn unheard() -> Self {
        let started = Instant::now().checked_sub(Duration::from_millis(50)).expect("a machine that has just booted");
        Self { started, last_contact_ms: AtomicU64::new(0) }
    }

    pub(super) fn is_heard(&self) -> bool {
        self.last_contact_ms.load(Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    const LENGTH: Duration = Duration::from_secs(900);

    /// True when the future is done by now; its timers fire on the paused clock.
    async fn is_done(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::task::yield_now().await;
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn every_contact_begins_it_anew() {
        let lease = Lease::default();
        let mut expired = pin!(lease.expired(LENGTH, || true));
        for _ in 0..3 {
            assert!(!is_done(expired.as_mut()).await);
            tokio::time::advance(LENGTH - Duration::from_secs(1)).await;
            lease.renew();
        }
        assert!(!is_done(expired.as_mut()).await);
        tokio::time::advance(LENGTH - Duration::from_secs(1)).await;
        assert!(!is_done(expired.as_mut()).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_done(expired.as_mut()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_worker_finishes_first() {
        let (lease, idle) = (Lease::default(), Cell::new(false));
        let mut expired = pin!(lease.expired(LENGTH, || idle.get()));
        for _ in 0..3 {
            tokio::time::advance(LENGTH).await;
            assert!(!is_done(expired.as_mut()).await);
        }
        idle.set(true);
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(is_done(expired.as_mut()).await);
    }
}
