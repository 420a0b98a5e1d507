#!/bin/sh
# mlxsupd as a proxy beside nginx, HAProxy and bare hyper: everything that a run needs, then the run.
# BENCH_… variables are in src/settings.rs.
set -eu
cd "$(dirname "$0")/../.."

missing=
for program in nginx haproxy; do
    PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing$missing"
        # Only the programs are wanted: the services that come with them are not to start.
        # shellcheck disable=SC2086
        SYSTEMD_OFFLINE=1 RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends $missing >/dev/null
    else
        echo "without$missing: sudo apt-get install -y$missing"
    fi
fi

# One descriptor for each queued client, and two in the daemon: as many as this user may have.
ulimit -n "$(ulimit -H -n)" 2>/dev/null || true

${CARGO:-cargo} build --locked --release -p mlxsup --bin mlxsupd
${CARGO:-cargo} build --locked --release --manifest-path benches/gateway/Cargo.toml --target-dir target/bench-build
BENCH_DAEMON="${BENCH_DAEMON:-$PWD/${CARGO_TARGET_DIR:-target}/release/mlxsupd}" exec target/bench-build/release/mlxsup-bench
