#!/bin/sh
# What mlxsupd itself costs while nobody asks anything: a real worker to watch, samples, rules and the history on.
# BENCH_REST_S: how long it is watched (default 120).
set -eu
cd "$(dirname "$0")/.."
rest=${BENCH_REST_S:-120}
home=target/bench-daemon
model=$PWD/target/models/SmolLM2-135M-Instruct.Q4_1.gguf

[ -d /proc/self ] || { echo "bench-daemon reads /proc, which this system does not have; on macOS look at Activity Monitor" >&2; exit 2; }
rm -rf "$home" && mkdir -p "$home" && chmod 700 "$home"
printf '[worker]\nmodel = "%s"\nkeep_awake = "off"\n' "$model" >"$home/mlxsup.toml"
target/release/mlxsupd --home "$home" >"$home/out" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null || true' EXIT INT TERM

printf 'waiting for the model\n'
until target/release/mlxsupctl --home "$home" status >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || { cat "$home/out" >&2; exit 1; }
    sleep 0.2
done
# What starting cost has been freed, and the first rates are known.
sleep 10

cpu() { awk '{print $14 + $15}' "/proc/$pid/stat"; }
field() { awk -v name="$1:" '$1 == name {print $2}' "/proc/$pid/status"; }
before=$(cpu)
printf 'watching mlxsupd for %s s\n' "$rest"
sleep "$rest"
after=$(cpu)

awk -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" -v rest="$rest" -v rss="$(field VmRSS)" \
    -v own="$(field RssAnon)" -v file="$(stat -c %s "$home/history.db")" 'BEGIN {
    share = ticks / hertz / rest * 100
    mb = rss * 1024 / 1e6
    printf "CPU time, samples at 1 Hz, rules, history: %.3f %% of a core (target 0.2 %%: %s)\n", share, share <= 0.2 ? "ok" : "MISSED"
    printf "resident: %.1f MB (target 12 MB: %s), of it %.1f MB its own, the rest its program and libraries\n", \
        mb, mb <= 12 ? "ok" : "MISSED", own * 1024 / 1e6
    printf "history.db: %.1f MB\n", file / 1e6
}'
