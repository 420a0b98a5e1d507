//! Whether clients are let in, and whether anybody is inside. One for the stable socket, one for the control socket.
//!
//! Owns the one value that all listeners and connections watch, and the count of those that are not done. A listener that
//! takes connections counts as somebody inside, so an empty gateway stays empty until the door is opened.

use std::sync::Arc;

use tokio::sync::watch;

/// The state of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Clients come in.
    Open,
    /// New clients wait in the backlog. Who is inside gets the answer to the request that has begun, and leaves.
    Held,
    /// Nobody comes in any more, and the listeners go.
    Closed,
}

/// The end that opens and closes. Dropping it closes.
#[derive(Debug)]
pub struct Porter {
    door: watch::Sender<Door>,
    inside: watch::Receiver<usize>,
}

/// The end that listeners and connections watch.
#[derive(Debug, Clone)]
pub struct Doorway {
    door: watch::Receiver<Door>,
    inside: Arc<watch::Sender<usize>>,
}

/// Somebody inside; leaves when dropped.
#[derive(Debug)]
pub struct Guest(Arc<watch::Sender<usize>>);

/// An open door.
#[must_use]
pub fn door() -> (Porter, Doorway) {
    let (door, seen) = watch::channel(Door::Open);
    let (count, inside) = watch::channel(0);
    (Porter { door, inside }, Doorway { door: seen, inside: Arc::new(count) })
}

impl Porter {
    /// Opens, holds or closes the door.
    pub fn set(&self, door: Door) {
        self.door.send_replace(door);
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        *self.inside.borrow()
    }

    /// Resolves once nobody is inside.
    pub fn empty(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut inside = self.inside.clone();
        async move {
            // Without listeners nobody can be inside.
            let _ = inside.wait_for(|count| *count == 0).await;
        }
    }
}

impl Doorway {
    /// The state now; a later change wakes [`Self::changed`].
    pub fn state(&mut self) -> Door {
        let door = *self.door.borrow_and_update();
        // Without a porter nobody is left who could want clients served.
        if self.door.has_changed().is_err() { Door::Closed } else { door }
    }

    /// Resolves when the state may be another one. Cancel-safe.
    pub async fn changed(&mut self) {
        let _ = self.door.changed().await;
    }

    /// Somebody comes in.
    #[must_use]
    pub fn enter(&self) -> Guest {
        self.inside.send_modify(|count| *count += 1);
        Guest(self.inside.clone())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
