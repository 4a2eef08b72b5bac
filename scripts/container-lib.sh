# shellcheck shell=sh disable=SC2034 # the scripts that source it use the variables
# Podman for the container scripts; sourced from the top of the checkout, after lib.sh.
# All its files are in .cache/container and in one folder of /run, separate from any other use of podman.

container_dir=$PWD/.cache/container
container_run=/run/tabfleet-$(printf %s "$container_dir" | sha256sum | cut -c1-8)
base_image=localhost/python:3.13-slim-bookworm

install_podman() {
    [ "$(id -u)" -eq 0 ] || fail "the container scripts create networks and mounts; run them as root"
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

# Works without systemd: cgroupfs, with events and logs in files. runc, because crun 1.8 fails on cgroups v1.
# File locks, because locks in shared memory are shared by all podman installations of the machine.
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
lock_type = "file"
tmp_dir = "$container_run/libpod"
[network]
network_backend = "netavark"
network_config_dir = "$container_dir/networks"
CONF
    cat > "$container_dir/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$container_dir/store"
runroot = "$container_run"
CONF
    export CONTAINERS_CONF="$container_dir/containers.conf"
    export CONTAINERS_STORAGE_CONF="$container_dir/storage.conf"
    # Build caches (packages, wheels) are below TMPDIR; the next build reuses them.
    export TMPDIR="$container_dir/tmp"
}

# Remove all containers, networks and volumes, also those of a killed run; keep images.
end_containers() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    podman network prune --force >/dev/null 2>&1 || true
    podman volume prune --force >/dev/null 2>&1 || true
    unmount_all
    find "$TMPDIR" -mindepth 1 -maxdepth 1 ! -name buildah-cache -exec rm -rf --one-file-system {} + 2>/dev/null || true
}

# Builds of podman 4.3 leave mounts behind. Unmount nested ones first.
unmount_all() {
    awk -v store="$container_dir/" -v run="$container_run/" \
        'index($5, store) == 1 || index($5, run) == 1 {print $5}' /proc/self/mountinfo | sort -r \
        | while read -r place; do umount "$place" 2>/dev/null || true; done
}

# Remove the images as well.
discard_store() {
    unmount_all
    rm -rf --one-file-system "$container_dir/store" "$container_run" 2>/dev/null || true
    rm -f "$container_dir"/networks/*.json
}

# Install linters, kubectl and validators into their own environment.
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
