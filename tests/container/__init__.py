"""Build the images and run them in podman: `scripts/container-test` prepares the machine and runs this package.

`checks_*` are the checks, which `checks` registers and runs; `services` is what they run against, the demo site and an
S3 server. `podman`, `image_build`, `compose` and `manifests` drive podman, builds, Compose files, and the Kubernetes
overlays.
"""
