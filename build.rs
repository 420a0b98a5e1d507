//! One argument for the linker.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        // Relocations in packed form: they are read once, at the start, and stay resident, 1 MB of the 12 that a daemon at rest
        // may take. Needs glibc 2.36, as any program linked on a system that has it; older linkers say that they ignore it.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
