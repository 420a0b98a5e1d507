# What the set-up scripts ask of the machine: messages, packages, checksums. Sourced, never run.
# POSIX sh only: the /bin/sh of Debian is dash, the one of macOS is an old bash.

# The script that sources this file names itself in SCRIPT, so that every line says who speaks.
say() {
    printf '%s: %s\n' "$SCRIPT" "$*" >&2
}

fail() {
    printf '%s: error: %s\n' "$SCRIPT" "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

is_debian() {
    have dpkg-query && have apt-get
}

# need_packages PACKAGE...: makes sure that Debian packages are installed. Root gets them installed, anyone else is
# told the command. On other systems the caller checks for the tools themselves.
need_packages() {
    is_debian || return 0
    absent=
    for package in "$@"; do
        case "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" in
        *" installed") ;;
        *) absent="$absent $package" ;;
        esac
    done
    [ -n "$absent" ] || return 0
    [ "$(id -u)" = 0 ] || fail "these packages are missing; install them and run this again:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends$absent"
    say "installing Debian packages:$absent"
    # An unreachable extra source must not stop the install: whether the packages can be had is what decides.
    apt-get -q update >&2 || say "apt-get update reported problems; trying the packages all the same"
    # shellcheck disable=SC2086  # a list of words on purpose
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $absent >&2 ||
        fail "apt-get could not install:$absent; its message above says why"
}

# need_tool COMMAND HINT: for systems where packages cannot be checked.
need_tool() {
    have "$1" || fail "$1 is missing: $2"
}

# sha256 FILE...: prints the bare checksum of the concatenated files.
sha256() {
    if have sha256sum; then
        cat "$@" | sha256sum | cut -d ' ' -f 1
    else
        cat "$@" | shasum -a 256 | cut -d ' ' -f 1
    fi
}

# How many jobs to run at once.
jobs_here() {
    getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2
}

# fetch_wheel DIRECTORY REQUIREMENT SHA256...: one wheel from PyPI through pip, refused unless its checksum is one of
# those given. Prints the path of the wheel.
fetch_wheel() {
    wheel_dir=$1
    wheel_name=$2
    shift 2
    rm -rf "$wheel_dir"
    mkdir -p "$wheel_dir"
    {
        printf '%s' "$wheel_name"
        for sum in "$@"; do printf ' --hash=sha256:%s' "$sum"; done
        echo
    } >"$wheel_dir/wheel.txt"
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: install python3-pip (Debian: sudo apt-get install -y python3-pip)"
    python3 -m pip --quiet download --no-deps --only-binary :all: --require-hashes \
        --dest "$wheel_dir" --requirement "$wheel_dir/wheel.txt" >&2 ||
        fail "pip could not download $wheel_name for this machine; its message above says why"
    set -- "$wheel_dir"/*.whl
    [ -f "$1" ] || fail "pip downloaded no wheel for $wheel_name into $wheel_dir"
    printf '%s\n' "$1"
}
