#!/bin/sh
# The article's experiment with mlxsup: everything that a run needs, then the run, then the picture. Linux and root only: it
# sets up zram swap and a limited control group, and gives both back. BENCH_… variables are in experiment.py.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
SCRIPT=bench-memory
# shellcheck source=etc/setup/host.sh
. "$root/etc/setup/host.sh"

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
    fail "Python 3.9 or newer is needed; name one: PYTHON=… make bench-memory"

work=$root/target/bench-memory
status=0
"$python" -B "$root/benches/memory/experiment.py" || status=$?
# 1 is a missed target: measured all the same.
[ "$status" -le 1 ] || exit "$status"

# matplotlib from the Python at hand, else in an environment of its own.
draw=$python
if ! "$draw" -c 'import matplotlib' 2>/dev/null; then
    draw=$work/python/bin/python
    if ! "$draw" -c 'import matplotlib' 2>/dev/null; then
        say "installing matplotlib into target/bench-memory/python (once)"
        { "$python" -m venv "$work/python" &&
            "$draw" -m pip --quiet --disable-pip-version-check install --only-binary :all: matplotlib; } >&2 || {
            say "no picture: matplotlib could not be installed; its message above says why. The curves: target/bench-memory/curves.csv"
            exit "$status"
        }
    fi
fi
# Parts of the experiment do not replace the picture of the whole.
picture=$work/memory-experiment.png
[ -n "${BENCH_ONLY:-}" ] || picture=$root/docs/memory-experiment.png
"$draw" -B "$root/benches/memory/draw.py" "$work" "$picture"
say "drawn: $picture"
exit "$status"
