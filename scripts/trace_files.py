#!/usr/bin/env python3
"""Run the product, and list the files whose code one chat request runs, and one profile from S3 to READY.

    python scripts/trace_files.py

A real coordinator with a real S3 server runs one real child on the demo site, and answers one streamed request. Both
programs are traced by `sys.setprofile`. A call counts if it is one of a function, and its context began in one of the
functions below; tasks inherit context variables.
"""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.fleet import MODEL, demo_site, fleet, log_in_by_request  # noqa: E402
from tests.support.s3 import BUCKET, s3_server  # noqa: E402

BEGINNINGS = {
    "request": ("Proxy.__call__", "ChatProxy.__call__", "ask_page"),
    "profile": ("Hydrator.hydrate", "Fleet.start", "Supervisor.start", "run_child"),
}
"""Functions, by qualified name, whose call begins a request or the start of a profile."""

TRACER = """
import _thread, contextvars, inspect, os, sys, threading
ROOT, OUT = {root!r}, {out!r}
BEGINNINGS = {beginnings!r}
where = contextvars.ContextVar("where", default=None)
found = set()

def trace(frame, event, argument):
    if event != "call":
        return
    code = frame.f_code
    if not code.co_filename.startswith(ROOT) or "/.venv/" in code.co_filename:
        return
    if not code.co_flags & inspect.CO_OPTIMIZED:  # the body of a module or of a class, which an import runs
        return
    for what, names in BEGINNINGS.items():
        if code.co_qualname in names:
            scope = frame.f_locals.get("scope")
            if what != "request" or scope is None or scope["path"].endswith("/completions"):
                where.set(what)
    if where.get():
        entry = (where.get(), os.path.relpath(code.co_filename, ROOT))
        if entry not in found:
            found.add(entry)
            with open(os.path.join(OUT, str(os.getpid())), "a") as file:
                file.write("\\t".join(entry) + "\\n")

start_thread = _thread.start_new_thread

def start_traced(function, *arguments):  # the coordinator hydrates in a thread that threading does not know
    def run(*given, **named):
        sys.setprofile(trace)
        function(*given, **named)
    return start_thread(run, *arguments)

if any(word.endswith(("coordinator.main", "launch_camoufox.py")) for word in sys.orig_argv):
    sys.setprofile(trace)
    threading.setprofile(trace)
    _thread.start_new_thread = start_traced
"""


def main() -> None:
    """Trace one request and one profile, and print both lists."""
    with tempfile.TemporaryDirectory() as folder:
        met = _run(Path(folder))
    for what in BEGINNINGS:
        files = sorted({path for kind, path in met if kind == what})
        print(f"one {what}: {len(files)} files")
        print(textwrap.indent("\n".join(files), "  "))


def _run(folder: Path) -> set[tuple[str, str]]:
    out, hook, storage = folder / "out", folder / "hook", folder / "s3"
    for made in (out, hook, storage):
        made.mkdir()
    source = TRACER.format(root=str(ROOT), out=str(out), beginnings=BEGINNINGS)
    (hook / "sitecustomize.py").write_text(source)
    with demo_site() as site, s3_server(storage) as s3:
        profiles = log_in_by_request(site, folder / "profiles", ["ada"])
        s3.upload({"fleet/active/ada.json": (profiles / "ada.json").read_bytes()})
        environment = {
            **s3.credentials(),
            "PYTHONPATH": os.pathsep.join([str(hook), str(ROOT)]),
            "PROFILE_BACKEND": "s3",
            "AUTH_PROFILE_S3_BUCKET": BUCKET,
            "AUTH_PROFILE_S3_PREFIX": "fleet",
            "AUTH_PROFILE_CACHE_DIR": str(folder / "cache"),
        }
        with fleet(site, folder, folder / "run", **environment) as running:
            running.wait_for(ada="READY")
            stream = running.client().chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "What is a quay?"}], stream=True
            )
            print(f"answered in {sum(1 for _ in stream)} chunks")
    lines = [line for file in out.iterdir() for line in file.read_text().splitlines()]
    return {(kind, path) for kind, _, path in (line.partition("\t") for line in lines)}


if __name__ == "__main__":
    main()
