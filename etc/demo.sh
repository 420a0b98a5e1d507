#!/bin/sh
# The whole promise in a minute: load a real model, stream an answer through the stable socket, replace the worker twice in the
# middle of another, and show what the daemon says about it. `make demo` builds everything first; `--stay` leaves it running.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
model=$root/target/models/SmolLM2-135M-Instruct.Q4_1.gguf
bin=$root/target/release
home=$root/target/demo
# Unix socket paths are limited (104 bytes on macOS); a deep checkout gets a home elsewhere.
if [ "${#home}" -gt 70 ]; then
    home=/tmp/mlxsup-demo-$(id -u)
fi
export MLXSUP_HOME="$home"

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf '\ndemo failed: %s\nlogs: %s\n' "$*" "$home/logs" >&2
    tail -n 15 "$home/logs/mlxsupd.log" "$home/logs/worker.log" 2>/dev/null >&2 || true
    exit 1
}
ask() {
    "$bin/mlxsupctl" chat --temperature 0 "What is the capital of France?" | tee "$home/answer"
    grep -q Paris "$home/answer" || fail "that is not Paris"
}
state() { "$bin/mlxsupctl" status --json 2>/dev/null | sed -n 's/^ *"state": *"\([a-z]*\)".*/\1/p' | head -n 1; }

[ -f "$model" ] || fail "the model is missing; run: make model"
mkdir -p "$home"
cat >"$home/mlxsup.toml" <<CONFIG
[worker]
model = "$model"
CONFIG

say "start the daemon, watch the worker load (home: $home)"
"$bin/mlxsupd" --home "$home" 2>"$home/mlxsupd.stderr" &
daemon=$!
stop() {
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT TERM

last=
waited=0
while :; do
    kill -0 "$daemon" 2>/dev/null || { cat "$home/mlxsupd.stderr" >&2; fail "the daemon ended"; }
    line=$("$bin/mlxsupctl" status 2>/dev/null | sed -n '1p;/^worker/p' || true)
    if [ "$line" != "$last" ]; then
        printf '%s\n' "$line"
        last=$line
    fi
    [ "$(state)" = serving ] && break
    waited=$((waited + 1))
    [ "$waited" -lt 1200 ] || fail "the worker is not ready after two minutes"
    sleep 0.1
done

say "a streamed answer through $home/mlxsup.sock"
ask

say "replace the worker in the middle of an answer: by cutting it off, then once more beside it, where two fit"
"$bin/mlxsupctl" chat --temperature 0 --max-tokens 200 "Tell me a story about a sailor." >"$home/story" &
story=$!
waited=0
until [ -s "$home/story" ]; do
    waited=$((waited + 1))
    [ "$waited" -lt 600 ] || fail "the story does not begin"
    sleep 0.1
done
"$bin/mlxsupctl" restart --mode now
"$bin/mlxsupctl" restart
wait "$story" || fail "the story broke off"
cat "$home/story"
tail -n 1 "$home/logs/requests.log"
ask

say "what the daemon says"
"$bin/mlxsupctl" status || fail "the service does not serve"

if [ "${1:-}" = --stay ]; then
    say "serving until Ctrl-C; in another terminal:"
    printf '  export MLXSUP_HOME=%s\n  %s chat "Tell me a story"\n' "$home" "$bin/mlxsupctl"
    printf '  curl --unix-socket %s/mlxsup.sock http://x/v1/models\n' "$home"
    wait "$daemon"
else
    say "stop"
    stop
    trap - EXIT
    echo "done"
fi
