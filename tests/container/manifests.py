"""Render a Kubernetes overlay, and translate its Deployment and mounts to podman as a kubelet would run them.

The fields: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.container.podman import ROOT

KUBECTL = ROOT / ".cache" / "container" / "tools" / "bin" / "kubectl"
CONFIG_MODE = 0o644  # Kubernetes' default for mounted files
Files = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Pod:
    """The pod template of a rendered overlay, and all its documents."""

    documents: list[dict[str, Any]]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """Return the pod's only container."""
        only: dict[str, Any] = self.spec["containers"][0]
        return only

    def environment(self) -> dict[str, str]:
        """Return the variables of `envFrom`: the values of ConfigMap and Secret, empty ones included."""
        found: dict[str, str] = {}
        for source in self.container["envFrom"]:
            (kind, reference), *_ = source.items()
            wanted = {"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind]
            document = self.document(wanted, reference["name"])
            found |= document.get("data", {}) | document.get("stringData", {})
        return found

    def document(self, kind: str, name: str) -> dict[str, Any]:
        """Return the document of this kind and name."""
        return next(doc for doc in self.documents if (doc["kind"], doc["metadata"]["name"]) == (kind, name))

    def labels(self) -> dict[str, str]:
        """Return the labels of the pods."""
        found: dict[str, str] = workload(self.documents)["spec"]["template"]["metadata"]["labels"]
        return found

    def selectors(self) -> list[dict[str, str]]:
        """Return the selectors of the workload, Services, NetworkPolicy and PodDisruptionBudget."""
        found = []
        for document in self.documents:
            spec = document.get("spec", {})
            selector = spec.get("podSelector", spec.get("selector"))
            if selector is not None:
                found.append(selector.get("matchLabels", selector))
        return found

    def options(self, folder: Path, files: Files) -> list[str]:
        """Return podman options for security context, limits, ports and mounts; `files` has the mounted files."""
        pod, own = self.spec["securityContext"], self.container["securityContext"]
        assert own["readOnlyRootFilesystem"]
        assert not own["allowPrivilegeEscalation"]
        return [
            f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
            *("--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges"),
            *(f"--cap-drop={name.lower()}" for name in own["capabilities"]["drop"]),
            f"--memory={self.container['resources']['limits']['memory'].removesuffix('i').lower()}",
            f"--publish=127.0.0.1::{self.container['ports'][0]['containerPort']}",
            *(self._mount(mount, folder, files) for mount in self.container["volumeMounts"]),
        ]

    def _mount(self, mount: Mapping[str, Any], folder: Path, files: Files) -> str:
        name = mount["name"]
        volume = next(volume for volume in self.spec["volumes"] if volume["name"] == name)
        place, group = folder / name, self.spec["securityContext"]["fsGroup"]
        if "emptyDir" in volume or "persistentVolumeClaim" in volume:
            place.mkdir(parents=True)
            shutil.chown(place, "root", group)
            place.chmod(0o2777)
        else:
            mode = volume.get("secret", volume.get("configMap")).get("defaultMode", CONFIG_MODE)
            _make_links(place, files[name], group, mode)
        return f"--volume={place}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}"


def _make_links(place: Path, files: Sequence[Path], group: int, mode: int) -> None:
    """Write a folder as a kubelet does to replace all files atomically: symlinks through the symlink `..data`."""
    data = place / "..2026_11_23_12_00_00.123456789"
    data.mkdir(parents=True)
    (place / "..data").symlink_to(data.name)
    for file in files:
        copy = data / file.name
        shutil.copyfile(file, copy)
        shutil.chown(copy, "root", group)
        copy.chmod(mode)
        (place / file.name).symlink_to(f"..data/{file.name}")


def workload(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the document that makes the pods: a Deployment, or a StatefulSet of cells."""
    (only,) = [doc for doc in documents if doc["kind"] in ("Deployment", "StatefulSet")]
    return only


def rendered(overlay: str) -> Pod:
    """Render an overlay with kubectl, without a cluster."""
    command = [str(KUBECTL), "kustomize", f"{ROOT}/deploy/kubernetes/overlays/{overlay}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    documents = list(yaml.safe_load_all(done.stdout))
    return Pod(documents, workload(documents)["spec"]["template"]["spec"])
