#!/bin/sh
# A launchd of a test's own. Beside this script: `calls` (written), `VERB.fails` (lines `CODE MESSAGE`, played first),
# `home` and `pid.next` (the daemon to pretend), `lazy` (no process without a kickstart), `dead` (never a process),
# `lingers` (so many looks at a job that was ordered out).
here=$(dirname "$0")
echo "launchctl $*" >> "$here/calls"
if [ -s "$here/$1.fails" ]; then
    line=$(head -n 1 "$here/$1.fails")
    tail -n +2 "$here/$1.fails" > "$here/rest" && mv "$here/rest" "$here/$1.fails"
    echo "${line#* }" >&2
    exit "${line%% *}"
fi

start() {
    [ -e "$here/dead" ] && return
    cp "$here/pid.next" "$here/pid"
    ln -sf real.sock "$(cat "$here/home")/control.sock"
}

case $1 in
print)
    if [ -s "$here/lingering" ]; then
        tail -n +2 "$here/lingering" > "$here/rest" && mv "$here/rest" "$here/lingering"
    elif [ ! -e "$here/registered" ]; then
        echo "Bad request." >&2
        echo "Could not find service in domain" >&2
        exit 113
    fi
    printf '%s = {\n\tstate = spawn scheduled\n\tendpoints = {\n\t\tpid = 4\n\t}\n' "$2"
    [ -e "$here/pid" ] && printf '\tpid = %s\n' "$(cat "$here/pid")"
    [ -e "$here/dead" ] && printf '\tlast exit code = 2\n'
    printf '}\n'
    ;;
bootstrap)
    touch "$here/registered"
    [ -e "$here/lazy" ] || start
    ;;
kickstart)
    if [ ! -e "$here/registered" ]; then
        echo "Could not find service" >&2
        exit 113
    fi
    start
    ;;
bootout)
    [ -e "$here/lingers" ] && cp "$here/lingers" "$here/lingering"
    rm -f "$here/registered" "$here/pid" "$(cat "$here/home")/control.sock"
    ;;
esac
exit 0
