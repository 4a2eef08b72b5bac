# shellcheck shell=sh disable=SC2034 # what it sets is for the scripts that source it
# Podman for the container scripts; sourced from the top of the checkout, after lib.sh.
# Everything it makes lies in .cache/container, apart from any other use of podman on this machine.

container_dir=$PWD/.cache/container
base_image=localhost/python:3.13-slim-bookworm

install_podman() {
    [ "$(id -u)" -eq 0 ] || fail "the container scripts make networks and mounts; run them as root"
    missing=
    for pair in podman:podman runc:runc netavark:/usr/lib/podman/netavark aardvark-dns:/usr/lib/podman/aardvark-dns \
        iptables:iptables mmdebstrap:mmdebstrap zstd:zstd; do
        command -v "${pair#*:}" >/dev/null || missing="$missing ${pair%%:*}"
    done
    [ -z "$missing" ] && return
    say "installing$missing from the system's packages"
    # shellcheck disable=SC2086 # a list of names
    apt_install $missing || fail "could not install$missing"
}

# Works without systemd: cgroups by hand, events and logs in files. runc, because crun 1.8 fails on cgroups v1.
configure_podman() {
    mkdir -p "$container_dir/tmp" "$container_dir/networks"
    cat > "$container_dir/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$container_dir/networks"
CONF
    cat > "$container_dir/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$container_dir/store"
runroot = "/run/tabfleet-container-test"
CONF
    export CONTAINERS_CONF="$container_dir/containers.conf"
    export CONTAINERS_STORAGE_CONF="$container_dir/storage.conf"
    # Build caches (packages, wheels) go below TMPDIR, so that the next build starts warm.
    export TMPDIR="$container_dir/tmp"
}

# Linters, kubectl and validators, apart from the product's own environment.
install_container_tools() {
    configure_podman
    stamp=$container_dir/tools/.locked
    cmp -s requirements/container-tools.txt "$stamp" 2>/dev/null && return
    uv=$(find_uv) || fail "uv is missing; run make setup"
    say "installing the container tools into .cache/container/tools"
    "$uv" venv --quiet --clear "$container_dir/tools"
    "$uv" pip install --quiet --python "$container_dir/tools/bin/python" --require-hashes -r requirements/container-tools.txt
    cp requirements/container-tools.txt "$stamp"
}
