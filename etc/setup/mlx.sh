#!/bin/sh
# Gives this checkout a real MLX for mlx-rs, under target/mlx.
#
# mlx-sys, below mlx-rs, builds MLX from a git host with CMake and Xcode. Here the official MLX wheel takes that
# place: the wheel brings libmlx and its headers, the mlx-c layer is compiled from the sources inside the mlx-sys
# crate, and target/mlx/config.toml, which .cargo/config.toml includes when it is there, tells Cargo to use the result
# instead of running mlx-sys's build script (Cargo's override for crates with `links`).
#
#   etc/setup/mlx.sh                    set up, or do nothing when target/mlx is up to date
#   MLX_FROM_SOURCE=1 etc/setup/mlx.sh  macOS with Xcode and CMake: leave MLX to mlx-sys
#
# Tried on Debian 12, x86-64. The aarch64 Linux and the macOS branches follow the same steps and are untried.
set -eu

SCRIPT=mlx.sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck source=etc/setup/host.sh
. "$root/etc/setup/host.sh"

# These three belong together: mlx-sys carries the mlx-c sources, and those compile against exactly this MLX.
mlx_sys_version=0.7.0
mlx_version=0.32.2
bindgen_version=0.72.1

# Checksums of the wheels of MLX $mlx_version, one per platform tag.
linux_wheel=mlx-cpu
linux_sums="
fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878
d0f94625588b51a878786dd51cec5617894ce586cf3c94645ce1b64e24c27c0b"
macos_wheel=mlx-metal
macos_sums="
3825fff379dbc107dd3413e564a06caeaa24819910ec49c0439e454c06a1b9b8
55a369250d220b2cf10213a87a2ac1b1a420608c5b35b1df4e7147ac8e32f121
e6abeac9ac5265830c9c1541b6f96e9be37a85c2446763a46ad466c63a3837ab"

out=$root/target/mlx

os=$(uname -s)
case "$os-$(uname -m)" in
Linux-x86_64) target=x86_64-unknown-linux-gnu wheel=$linux_wheel sums=$linux_sums ;;
Linux-aarch64) target=aarch64-unknown-linux-gnu wheel=$linux_wheel sums=$linux_sums ;;
Darwin-arm64) target=aarch64-apple-darwin wheel=$macos_wheel sums=$macos_sums ;;
*) fail "no MLX wheel is known for $os on $(uname -m); mlxsup runs on Apple silicon and on 64-bit Linux" ;;
esac

if [ "${MLX_FROM_SOURCE:-0}" = 1 ]; then
    [ "$os" = Darwin ] || fail "MLX_FROM_SOURCE=1 needs macOS: mlx-sys's own build knows no other system"
    rm -f "$out/config.toml"
    say "MLX_FROM_SOURCE=1: mlx-sys builds MLX itself (needs Xcode and cmake)"
    exit 0
fi

# The build is good for as long as this script, the versions and the platform stay the same.
stamp="$target $(sha256 "$root/etc/setup/mlx.sh" "$root/etc/setup/host.sh")"

# write_config: the only file that depends on where the checkout lies, so a moved or copied target/mlx stays usable.
write_config() {
    case "$os" in
    Darwin) cxx_library=c++ ;;
    *) cxx_library=stdc++ ;;
    esac
    {
        echo "# Written by etc/setup/mlx.sh for MLX $mlx_version; included by .cargo/config.toml."
        echo "[target.$target.mlx]"
        echo "rustc-link-search = [\"native=$out/lib\"]"
        echo "rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\", \"dylib=$cxx_library\"]"
        echo "rustc-env = { OUT_DIR = \"$out/bindings\" }"
        echo "# Seen by build scripts as DEP_MLX_LIB: worker/build.rs makes it the run path."
        echo "lib = \"$out/lib\""
        if [ "$target" != aarch64-apple-darwin ]; then
            echo
            echo "# Enough to type-check the macOS code from here; nothing is linked."
            echo "[target.aarch64-apple-darwin.mlx]"
            echo "rustc-link-lib = [\"dylib=mlx\"]"
            echo "rustc-env = { OUT_DIR = \"$out/bindings\" }"
            echo "lib = \"$out/lib\""
        fi
    } >"$out/config.toml.new"
    if cmp -s "$out/config.toml.new" "$out/config.toml"; then
        rm "$out/config.toml.new"
    else
        mv "$out/config.toml.new" "$out/config.toml"
    fi
}

if [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
    write_config
    say "MLX $mlx_version is ready in target/mlx"
    exit 0
fi

# --- tools -----------------------------------------------------------------------------------------------------------

case "$os" in
Linux)
    # A python3 from elsewhere (pyenv, conda) may bring its own pip: then Debian's is not needed.
    need_packages g++ libclang-dev libfmt-dev libopenblas0-pthread python3
    python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip
    need_tool g++ "install a C++20 compiler"
    need_tool python3 "install Python 3 with pip"
    ;;
Darwin)
    need_tool c++ "install the Command Line Tools: xcode-select --install"
    need_tool python3 "install the Command Line Tools: xcode-select --install"
    ;;
esac
need_tool cargo "install Rust from https://rustup.rs"

# From here on target/mlx is in pieces: without a stamp a failed run starts over.
mkdir -p "$out"
rm -f "$out/stamp" "$out/config.toml"

# --- the mlx-c sources, out of the mlx-sys crate ------------------------------------------------------------------------

say "locating the sources of mlx-sys $mlx_sys_version (cargo fetches them if needed)"
(cd "$root" && cargo metadata --format-version 1 --locked) >"$out/metadata.json" ||
    fail "cargo metadata failed; its message above says why"
mlx_sys=$(python3 - "$out/metadata.json" <<'PYTHON'
import json, os, sys
for package in json.load(open(sys.argv[1]))["packages"]:
    if package["name"] == "mlx-sys":
        print(package["version"], os.path.dirname(package["manifest_path"]))
PYTHON
)
rm "$out/metadata.json"
case "$mlx_sys" in
"$mlx_sys_version "*) mlx_c=${mlx_sys#* }/src/mlx-c ;;
"") fail "Cargo.lock names no mlx-sys: this script is for a workspace that uses mlx-rs" ;;
*) fail "Cargo.lock has mlx-sys ${mlx_sys%% *}, this script knows $mlx_sys_version: adjust the versions at its head" ;;
esac
[ -f "$mlx_c/CMakeLists.txt" ] || fail "the mlx-sys crate at ${mlx_sys#* } has no src/mlx-c"
grep -q "GIT_TAG v$mlx_version\$" "$mlx_c/CMakeLists.txt" ||
    grep -q "GIT_TAG v$mlx_version)" "$mlx_c/CMakeLists.txt" ||
    fail "mlx-sys $mlx_sys_version pins another MLX than $mlx_version: adjust the versions at the head of this script"

# --- MLX itself ---------------------------------------------------------------------------------------------------------

say "downloading $wheel $mlx_version"
# shellcheck disable=SC2086  # a list of checksums on purpose
wheel_file=$(fetch_wheel "$out/download" "$wheel==$mlx_version" $sums)
rm -rf "$out/wheel" "$out/lib"
python3 -m zipfile -e "$wheel_file" "$out/wheel"
rm -r "$out/download"
# libmlx finds its neighbours relative to itself, so the wheel keeps its layout and lib only points into it.
ln -s wheel/mlx/lib "$out/lib"

if [ "$os" = Linux ]; then
    # The wheel carries the reference BLAS, an order of magnitude slower than OpenBLAS. OpenBLAS has the symbols of
    # both BLAS and LAPACK, so it stands in for both files.
    openblas=
    for candidate in "/usr/lib/$(uname -m)-linux-gnu/openblas-pthread/libopenblas.so.0" /usr/lib64/libopenblasp.so.0 \
        /usr/lib64/libopenblas.so.0 /usr/lib/libopenblas.so.0; do
        if [ -e "$candidate" ]; then
            openblas=$candidate
            break
        fi
    done
    if [ -n "$openblas" ]; then
        say "using OpenBLAS from $openblas"
        for bundled in "$out"/wheel/mlx_cpu.libs/libblas-*.so* "$out"/wheel/mlx_cpu.libs/liblapack-*.so*; do
            [ -e "$bundled" ] || fail "the wheel has no $(basename "$bundled"): its layout changed"
            ln -sf "$openblas" "$bundled"
        done
    else
        say "no OpenBLAS found: the wheel's reference BLAS stays, and matrix products will be slow"
    fi
fi

# --- mlx-c --------------------------------------------------------------------------------------------------------------

# What mlx-c lacks off Apple hardware. std::format came with GCC 13; before, {fmt} has the same interface. The
# half-precision accessors are declared on Arm only, while mlx-rs links to them everywhere.
cat >"$out/compat.h" <<'HEADER'
#ifdef __cplusplus
#include <version>
#ifdef __cpp_lib_format
#include <format>
#else
#define FMT_HEADER_ONLY
#include <fmt/format.h>
#include <string>
namespace std {
using fmt::format;
}
#endif
#endif
#ifndef __aarch64__
#define HAS_FLOAT16
#define HAS_BFLOAT16
#ifdef __cplusplus
#include "mlx/types/half_types.h"
using mlx::core::bfloat16_t;
using mlx::core::float16_t;
#else
#include <stdint.h>
typedef uint16_t float16_t;
typedef uint16_t bfloat16_t;
#endif
#endif
HEADER
# GCC before 13 has no <format> header, which mlx-c includes by name: an empty one, last on the path, stands in.
mkdir -p "$out/missing"
: >"$out/missing/format"

case "$os" in
Darwin)
    compiler=c++
    flags="-D_METAL_ -DACCELERATE_NEW_LAPACK -I$out/wheel/mlx/include/metal_cpp"
    ;;
*)
    compiler=g++
    flags="-include $out/compat.h -idirafter $out/missing"
    ;;
esac
case "$out" in
*[[:space:]\"\\]*) fail "the path of this checkout has a blank or a quote in it: $root" ;;
esac
# The CMake file lists the sources one to a line; a line in comments is one that is not built.
sources=$(sed -n 's|^ *${CMAKE_CURRENT_LIST_DIR}/\(mlx/c/.*\.cpp\))*$|\1|p' "$mlx_c/CMakeLists.txt")
[ -n "$sources" ] || fail "found no sources listed in $mlx_c/CMakeLists.txt"
# shellcheck disable=SC2086  # a list of words on purpose
set -- $sources
say "compiling mlx-c: $# files, $(jobs_here) at a time"
rm -rf "$out/objects"
mkdir -p "$out/objects"
printf '%s\n' "$@" | xargs -P "$(jobs_here)" -I '{}' sh -c '
    "$1" -std=c++20 -O2 -DNDEBUG -fPIC -w $2 -I"$3" -I"$4/wheel/mlx/include" \
        -c "$3/{}" -o "$4/objects/$(basename "{}" .cpp).o"
' compile "$compiler" "$flags" "$mlx_c" "$out" || fail "$compiler could not compile mlx-c; its message above says why"
rm -f "$out/lib/libmlxc.a"
ar crs "$out/lib/libmlxc.a" "$out"/objects/*.o
rm -r "$out/objects"

# --- bindings -----------------------------------------------------------------------------------------------------------

bindgen=$out/tools/bin/bindgen
if [ "$("$bindgen" --version 2>/dev/null)" != "bindgen $bindgen_version" ]; then
    say "building bindgen $bindgen_version (once, a minute or two)"
    # A debug build: it runs for one second and would compile for minutes.
    (cd "$out" && cargo install --quiet --locked --debug --version "$bindgen_version" --no-default-features \
        --features runtime --root "$out/tools" --target-dir "$out/tools/build" bindgen-cli) ||
        fail "cargo install bindgen-cli failed; its message above says why"
    rm -rf "$out/tools/build"
fi
say "generating the bindings"
mkdir -p "$out/bindings"
for header in "$mlx_c"/mlx/c/*.h; do
    printf '#include "mlx/c/%s"\n' "$(basename "$header")"
done >"$out/wrapper.h"
# mlx-rs reads float16_t as a tuple struct over u16 and bfloat16_t as a plain u16. From Arm's own types bindgen makes
# that by itself; from compat.h's it has to be asked.
case "$target" in
*-apple-darwin) set -- -- -isysroot "$(xcrun --show-sdk-path)" ;;
x86_64-*) set -- --new-type-alias float16_t -- -include "$out/compat.h" ;;
*) set -- -- -include "$out/compat.h" ;;
esac
# Otherwise the options of mlx-sys's own build script.
"$bindgen" "$out/wrapper.h" --rust-target 1.73 --blocklist-function malloc --blocklist-function realloc \
    --output "$out/bindings/bindings.rs" "$@" -I"$mlx_c" ||
    fail "bindgen could not read the mlx-c headers; its message above says why"
rm "$out/wrapper.h"
if [ "${target%%-*}" = x86_64 ]; then
    cat >>"$out/bindings/bindings.rs" <<'RUST'
impl Default for float16_t {
    fn default() -> Self {
        // All bits zero is the number zero.
        Self(Default::default())
    }
}
RUST
fi

# --- does it load? ------------------------------------------------------------------------------------------------------

if [ "$os" = Linux ]; then
    python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$out/lib/libmlx.so" ||
        fail "libmlx.so does not load: the loader's message above names what is missing"
fi

write_config
printf '%s\n' "$stamp" >"$out/stamp"
say "MLX $mlx_version is ready in target/mlx"
