#!/bin/sh
# A systemd of a test's own; files beside it as for `launchctl.sh`.
here=$(dirname "$0")
echo "systemctl $*" >> "$here/calls"
[ "$1" = --user ] && shift
if [ -s "$here/$1.fails" ]; then
    line=$(head -n 1 "$here/$1.fails")
    tail -n +2 "$here/$1.fails" > "$here/rest" && mv "$here/rest" "$here/$1.fails"
    echo "${line#* }" >&2
    exit "${line%% *}"
fi

case $1 in
show)
    if [ -e "$here/pid" ]; then
        printf 'MainPID=%s\nResult=success\nLoadState=loaded\nActiveState=active\nSubState=running\n' "$(cat "$here/pid")"
    elif [ -e "$here/registered" ]; then
        printf 'MainPID=0\nResult=exit-code\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\n'
    else
        printf 'MainPID=0\nResult=success\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n'
    fi
    ;;
enable | start)
    touch "$here/registered"
    if [ ! -e "$here/dead" ]; then
        cp "$here/pid.next" "$here/pid"
        ln -sf real.sock "$(cat "$here/home")/control.sock"
    fi
    ;;
disable | stop)
    case "$*" in
    *mlxsup.service*) rm -f "$here/registered" "$here/pid" "$(cat "$here/home")/control.sock" ;;
    esac
    ;;
esac
exit 0
