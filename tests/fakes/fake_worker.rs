//! A worker that speaks the link and misbehaves on demand; for fault injection only.

fn main() {}
