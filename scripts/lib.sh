# Functions of the scripts here; sourced from the top of the checkout.

say() { printf 'set-up: %s\n' "$*" >&2; }

fail() {
    printf 'set-up failed: %s\n' "$*" >&2
    exit 1
}

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        path=$(command -v "$name") || continue
        if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

find_uv() {
    if [ -x .cache/uv/bin/uv ]; then
        printf '%s\n' "$PWD/.cache/uv/bin/uv"
    else
        command -v uv
    fi
}

# In its own environment, so that nothing is installed outside the checkout.
install_uv() {
    say "installing uv into .cache/uv"
    "$1" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv \
        || fail "Python's venv module is missing; install python3-venv"
    "$1" -m venv .cache/uv
    .cache/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
}

# Install system packages, as root or by sudo without a password.
apt_install() {
    command -v apt-get >/dev/null || return 1
    sudo=
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 1
        sudo='sudo -n'
    fi
    $sudo apt-get update -qq >&2 || return 1
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >&2
}

find_chromium() {
    if [ -n "${BROWSER_EXECUTABLE:-}" ]; then
        [ -x "$BROWSER_EXECUTABLE" ] && printf '%s\n' "$BROWSER_EXECUTABLE"
        return
    fi
    command -v chromium || command -v chromium-browser || command -v google-chrome \
        || command -v google-chrome-stable
}
