//! Tells the worker's binaries where libmlx lies at run time.
//!
//! The set-up script (`etc/setup/mlx.sh`) publishes the directory as `lib` in Cargo's override for mlx-sys. With
//! mlx-sys's own build MLX is linked statically and there is nothing to find.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_MLX_LIB");
    let Some(lib) = env::var_os("DEP_MLX_LIB") else { return };
    let macos = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos");
    // target/release/mlxsup-worker finds target/mlx/lib also after the checkout has moved; the absolute path serves
    // test binaries, which lie deeper, and builds with a target directory elsewhere.
    let beside = if macos { "@executable_path/../mlx/lib" } else { "$ORIGIN/../mlx/lib" };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.to_string_lossy());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{beside}");
    if !macos {
        // RUNPATH, not RPATH: LD_LIBRARY_PATH then goes first, which is how a CUDA libmlx takes the CPU one's place.
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags");
    }
}
