# shellcheck shell=sh disable=SC2034 # what it sets is for the scripts that source it
# Podman for the container scripts; sourced from the top of the checkout, after lib.sh.
# Everything it makes lies in .cache/container and in one folder of /run, apart from any other use of podman here.

container_dir=$PWD/.cache/container
container_run=/run/tabfleet-$(printf %s "$container_dir" | sha256sum | cut -c1-8)
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
# Locks are files too: those in shared memory belong to every podman of the machine.
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
    # Build caches (packages, wheels) go below TMPDIR, so that the next build starts warm.
    export TMPDIR="$container_dir/tmp"
}

# End every container, and take away all that podman keeps but its images; also what a killed run has left.
end_containers() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    podman network prune --force >/dev/null 2>&1 || true
    podman volume prune --force >/dev/null 2>&1 || true
    unmount_all
    find "$TMPDIR" -mindepth 1 -maxdepth 1 ! -name buildah-cache -exec rm -rf --one-file-system {} + 2>/dev/null || true
}

# Builds of podman 4.3 leave their mounts behind. Those that lie in others come first.
unmount_all() {
    awk -v store="$container_dir/" -v run="$container_run/" \
        'index($5, store) == 1 || index($5, run) == 1 {print $5}' /proc/self/mountinfo | sort -r \
        | while read -r place; do umount "$place" 2>/dev/null || true; done
}

# The images too.
discard_store() {
    unmount_all
    rm -rf --one-file-system "$container_dir/store" "$container_run" 2>/dev/null || true
    rm -f "$container_dir"/networks/*.json
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
