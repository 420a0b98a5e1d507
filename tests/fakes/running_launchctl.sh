#!/bin/sh
# A launchd that really runs the job it is given; the process's number and stderr lie beside this script.
here=$(dirname "$0")
case $1 in
print)
    [ -e "$here/registered" ] || exit 113
    printf '%s = {\n\tpid = %s\n}\n' "$2" "$(cat "$here/pid")"
    ;;
bootstrap)
    program=$(sed -n '/ProgramArguments/,/<\/array>/s/.*<string>\(.*\)<\/string>.*/\1/p' "$3")
    # shellcheck disable=SC2086 # one word a line, and the test's paths have no blanks
    $program < /dev/null > /dev/null 2>> "$here/stderr" &
    echo $! > "$here/pid"
    touch "$here/registered"
    ;;
bootout)
    kill -TERM "$(cat "$here/pid")"
    rm "$here/registered"
    ;;
esac
exit 0
