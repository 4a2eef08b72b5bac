#!/bin/sh
# Run nginx, and have it read its configuration again when the cells have other addresses: it looks names up only then. A
# container that is started again may have another address, and so has a pod that is replaced.
#
#   nginx-follow.sh "cell-0.example cell-1.example cell-2.example" nginx -g "daemon off;"
#
# While a name is unknown nothing changes, because nginx would refuse its configuration. From 1.27.3 on nginx can follow names
# by itself (`resolver`, and `resolve` at each `server`).
set -eu
names=${1:?the names of the cells}
shift

addresses() {
    # shellcheck disable=SC2086 # a list of names
    found=$(getent ahosts $names) && printf '%s\n' "$found" | sort -u
}

# nginx takes the place of this shell, and so has its process id.
known=$(addresses) || known=
while sleep 2 && kill -0 "$$" 2>/dev/null; do
    now=$(addresses) || now=
    [ "$now" != "$known" ] || continue
    known=$now
    [ -z "$now" ] || kill -HUP "$$"
done &
exec "$@"
