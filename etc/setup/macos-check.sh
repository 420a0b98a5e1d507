#!/bin/sh
# Type-checks and lints every crate for Apple silicon, on Debian, without an Apple toolchain.
#
# rustup has no standard library sources to offer here, but Debian's security archive has a recent compiler with its
# sources (built for browsers, hence "rustc-web"). Its packages are unpacked under target/macos-check, not installed,
# and Cargo builds the standard library's metadata for aarch64-apple-darwin from them. Nothing is linked and nothing
# runs: this proves that the macOS code compiles, no more. Root is needed only if packages are missing.
set -eu

SCRIPT=macos-check.sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck source=etc/setup/host.sh
. "$root/etc/setup/host.sh"

out=$root/target/macos-check
debs=$out/debs
tree=$out/compiler
bin=$tree/usr/bin
target=aarch64-apple-darwin

if [ "$(uname -s)" = Darwin ]; then
    say "on macOS 'make lint' already checks this platform; nothing to do"
    exit 0
fi
is_debian || fail "this check unpacks Debian's rustc-web packages and needs apt-get and dpkg; use Debian 12 or a container of it"

# The unpacked compiler, its driver library and LLVM find each other through this alone.
libraries=$tree/usr/lib/$(uname -m)-linux-gnu
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

stamp=$(sha256 "$root/etc/setup/macos-check.sh" "$root/etc/setup/host.sh")

# download PACKAGE...: into $debs, without installing.
download() {
    # Root downloads as root: apt's own user cannot write here, and says so at length.
    (cd "$debs" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2)
}

# depends_on PACKAGE PATTERN: the first dependency of a downloaded package whose name matches.
depends_on() {
    dpkg-deb --field "$debs/$1"_*.deb Depends | tr ',|' '\n\n' | sed 's/^ *//; s/ .*//' | grep -E -m 1 "^$2\$" ||
        fail "Debian's $1 has no dependency like $2: its packaging changed"
}

if [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ]; then
    # What the compiler's LLVM links to.
    need_packages libedit2 libxml2 libz3-4 gcc libc6-dev
    rm -rf "$debs" "$tree" "$out/stamp"
    mkdir -p "$debs" "$tree"
    say "downloading Debian's rustc-web packages (140 MB, once)"
    # Package lists are absent in a fresh image and out of date in an old one: refresh them where that is allowed.
    if [ "$(id -u)" = 0 ]; then
        apt-get -q update >&2 || say "apt-get update reported problems; trying the packages all the same"
    fi
    download rustc-web rust-web-clippy rust-web-src libstd-rust-web-dev ||
        fail "apt-get could not download rustc-web; refresh the lists with: sudo apt-get update"
    std=$(depends_on libstd-rust-web-dev 'libstd-rust-web-[0-9.]+')
    download "$std" || fail "apt-get could not download $std"
    llvm=$(depends_on "$std" 'libllvm[0-9]+')
    download "$llvm" || fail "apt-get could not download $llvm"

    say "unpacking"
    for deb in "$debs"/*.deb; do
        case "$deb" in
        # Of the sources only the library is wanted; the rest is the compiler and LLVM.
        */rust-web-src_*) dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$tree" --wildcards './usr/lib/rustlib/*' './usr/src/rustc-*/library*' ;;
        *) dpkg-deb --extract "$deb" "$tree" ;;
        esac
    done
    rm -r "$debs"

    version=$("$bin/rustc" --version | cut -d ' ' -f 2) || fail "the unpacked compiler does not run; its message above says why"
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    [ "$(printf '%s\n%s\n' "$needed" "$version" | sort -V | head -n 1)" = "$needed" ] ||
        fail "Debian's rustc-web is $version, this workspace needs $needed: refresh the lists with sudo apt-get update"
    "$bin/clippy-driver" --version >/dev/null || fail "the unpacked clippy does not run; its message above says why"
    printf '%s\n' "$stamp" >"$out/stamp"
fi

# The bindings of mlx-sys: generated here, good enough for types there.
"$root/etc/setup/mlx.sh"

say "checking all crates for $target with $("$bin/rustc" --version)"
cd "$root"
# RUSTC_BOOTSTRAP lets a stable compiler build its own standard library. Dependencies are not optimised here: only
# build scripts and procedural macros would be compiled at all.
RUSTC="$bin/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$out/build" RUSTFLAGS='' \
    "$bin/cargo-clippy" clippy -Zbuild-std=std,panic_abort,test --target "$target" --workspace --all-targets \
    --features mlxsup/fake-worker --config 'profile.dev.package."*".opt-level=0' --locked -- -D warnings ||
    fail "the macOS code does not compile cleanly; see above"
say "all crates compile for $target without warnings (checked, not run)"
