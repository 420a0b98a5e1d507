//! Where the orders come from.

use crate::lone::Lone;

#[test]
fn the_file_is_read_at_every_start() {
    let mut worker = Lone::ready("{\"fingerprint\":\"one\"}");
    worker.order("{\"fingerprint\":\"two\"}");
    assert_eq!(worker.status().fingerprint, "one");
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    worker.ended();
    worker.start();
    assert_eq!(worker.wait_until("the next", |_| true).fingerprint, "two");
}

#[test]
fn an_order_nobody_knows_is_refused() {
    let mut worker = Lone::new("{\"crash_at_tokn\":3}");
    worker.start();
    assert_eq!(worker.ended().code(), Some(1));
}
