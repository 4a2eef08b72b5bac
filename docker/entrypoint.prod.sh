#!/bin/sh
# Read secrets from files, hydrate profiles, record the settings, then exec the coordinator. Every step runs in the
# background: a shell that waits for a foreground program handles a SIGTERM only after that program has ended.
set -eu
umask 077

say() { printf 'entrypoint: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 2
}

work=
step=
stop() {
    trap '' TERM INT
    say "stopped during startup"
    if [ -n "$step" ]; then
        kill -TERM "$step" 2>/dev/null || true
        wait "$step" 2>/dev/null || true
    fi
    exit 0
}
trap stop TERM INT
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# Run one step, with its stdout in the file $1.
run() {
    out=$1
    shift
    "$@" >"$out" &
    step=$!
    wait "$step" || exit $?
    step=
}

# NAME_FILE is the path of a file that contains the value of NAME, in one line of printable ASCII. Editors on Windows put
# a byte order mark before it and a carriage return behind it.
read_secret_files() {
    mark=$(printf '\357\273\277')
    for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN HTTPS_PROXY; do
        eval "value=\${$name:-} file=\${${name}_FILE:-}"
        [ -n "$file" ] || continue
        [ -z "$value" ] || fail "$name and ${name}_FILE are both set; keep one of them"
        [ -f "$file" ] && [ -r "$file" ] || fail "${name}_FILE: $file is not a file that uid $(id -u) can read"
        value=$(tr -d '\r' <"$file")
        value=${value#"$mark"}
        [ -n "$value" ] || fail "${name}_FILE: $file is empty"
        case $value in
            *[!\ -~]*) fail "${name}_FILE: $file holds more than one line, or is not plain text; save it as UTF-8" ;;
        esac
        export "$name=$value"
        unset "${name}_FILE"
    done
    value=
}

resolved() { sed -n "s/^$1=//p" "$work/settings"; }

describe_backend() {
    case $(resolved PROFILE_BACKEND) in
        s3) say "backend=s3 bucket=$(resolved AUTH_PROFILE_S3_BUCKET) prefix=$(resolved AUTH_PROFILE_S3_PREFIX)" \
                "folder=$(resolved AUTH_PROFILE_CACHE_DIR)" ;;
        *) say "backend=local folder=$(resolved LOCAL_PROFILE_DIR)" ;;
    esac
}

use_hydrated_keys() {
    [ -z "${AUTH_KEY_FILE_PATH:-}" ] || return 0
    key_file=$(python -I -c 'import json, sys; print(json.load(sys.stdin)["key_file"] or "")' <"$work/hydrated")
    [ -n "$key_file" ] || return 0
    export AUTH_KEY_FILE_PATH="$key_file"
}

# /tmp may be a shared volume: write to our own folder and rename, so that no symlink is followed.
write_record() {
    {
        printf '# The settings of the running coordinator, as resolved from flags, environment and defaults. No secrets.\n'
        grep -v '^AUTH_KEY_FILE_PATH=' "$work/settings"
        printf 'AUTH_KEY_FILE_PATH=%s\n' "${AUTH_KEY_FILE_PATH:-}"
    } >"$work/.env.runtime"
    mv -f "$work/.env.runtime" /tmp/.env.runtime
}

cd "$(dirname "$0")/.."
export COORDINATOR_HOST="${COORDINATOR_HOST:-0.0.0.0}" COORDINATOR_PORT="${COORDINATOR_PORT:-2048}"
export BASE_API_PORT="${BASE_API_PORT:-3100}" BASE_STREAM_PORT="${BASE_STREAM_PORT:-3200}"
read_secret_files
work=$(mktemp -d /tmp/tabfleet-entry.XXXXXX) || fail "/tmp cannot be written; mount one: --tmpfs /tmp"
run "$work/settings" python docker/runtime_env.py "$@"
describe_backend
run "$work/hydrated" python -m coordinator.profiles hydrate "$@"
use_hydrated_keys
write_record
rm -rf "$work"
trap - EXIT
exec python -m coordinator.main "$@"
