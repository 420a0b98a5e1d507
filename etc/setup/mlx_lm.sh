#!/bin/sh
# Gives this checkout an mlx_lm to supervise, under target/mlx-lm, and a model it can read.
#
# mlx_lm comes from PyPI into a virtual environment of its own; nothing outside target/ changes. The small model of
# etc/setup/model.sh is unpacked once more, into the folder layout that mlx_lm reads: target/models/SmolLM2-135M-mlx.
# A second run finds both and does nothing.
#
# Tried on Debian 12, x86-64. The macOS branch follows the same steps and is untried.
set -eu

SCRIPT=mlx_lm.sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck source=etc/setup/host.sh
. "$root/etc/setup/host.sh"

# What docs/mlx_lm.md describes was seen with these.
mlx_version=0.32.4
mlx_lm_version=0.32.2
transformers_version=5.24.0

venv=$root/target/mlx-lm
gguf=$root/target/models/SmolLM2-135M-Instruct.Q4_1.gguf
folder=$root/target/models/SmolLM2-135M-mlx
converter=$root/etc/setup/mlx_lm_model.py

case "$(uname -s)" in
Linux) mlx="mlx[cpu]==$mlx_version" ;;
*) mlx="mlx==$mlx_version" ;;
esac

# --- mlx_lm ----------------------------------------------------------------------------------------------------------

stamp="$(uname -sm) $(sha256 "$root/etc/setup/mlx_lm.sh" "$root/etc/setup/host.sh")"
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    need_tool python3 "install Python 3.10 or newer"
    if [ "$(uname -s)" = Linux ]; then
        need_packages libopenblas0-pthread
        # A python3 from elsewhere (pyenv, conda) brings its own venv: then Debian's is not needed.
        python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
    fi
    say "installing mlx_lm $mlx_lm_version with MLX $mlx_version (once, a minute or two)"
    rm -rf "$venv"
    python3 -m venv "$venv" || fail "python3 -m venv failed; its message above says why"
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check install \
        "$mlx" "mlx-lm==$mlx_lm_version" "transformers==$transformers_version" >&2 ||
        fail "pip could not install mlx_lm for this machine; its message above says why"

    # As in mlx.sh: the wheel's reference BLAS is an order of magnitude slower than OpenBLAS, which has the symbols of
    # both BLAS and LAPACK and stands in for both files.
    for bundled in "$venv"/lib/python3*/site-packages/mlx_cpu.libs/libblas-*.so* \
        "$venv"/lib/python3*/site-packages/mlx_cpu.libs/liblapack-*.so*; do
        [ -e "$bundled" ] || continue
        for openblas in "/usr/lib/$(uname -m)-linux-gnu/openblas-pthread/libopenblas.so.0" \
            /usr/lib64/libopenblasp.so.0 /usr/lib64/libopenblas.so.0 /usr/lib/libopenblas.so.0; do
            if [ -e "$openblas" ]; then
                ln -sf "$openblas" "$bundled"
                break
            fi
        done
        [ -L "$bundled" ] || say "no OpenBLAS found: the wheel's reference BLAS stays, and answers will be slow"
    done
    "$venv/bin/python" -c 'import mlx_lm.server' || fail "mlx_lm does not load; Python's message above says why"
    printf '%s\n' "$stamp" >"$venv/stamp"
fi
say "mlx_lm $mlx_lm_version is ready: target/mlx-lm/bin/python"

# --- the model -------------------------------------------------------------------------------------------------------

[ -f "$gguf" ] || fail "target/models/${gguf##*/} is missing: run make model first"
stamp="$mlx_version $(sha256 "$converter")"
if [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ]; then
    say "unpacking the model for mlx_lm (540 MB, once)"
    "$venv/bin/python" "$converter" "$gguf" "$folder" || fail "the model could not be converted; see above"
    printf '%s\n' "$stamp" >"$folder/stamp"
fi
say "the model is ready: target/models/${folder##*/}"
