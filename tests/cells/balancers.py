"""The shipped configurations of nginx and HAProxy, run as they are but for addresses, before cells on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.coordinator.program import ROOT
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S

FOLDER = ROOT / "deploy" / "balancer"
BALANCERS = ("nginx", "haproxy")

# Debian's main configuration includes /etc/nginx/conf.d; this one keeps all files in one folder.
_NGINX = """\
daemon off; worker_processes 2; {user} pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/balancer.conf;
}}
"""


def with_addresses(text: str, cells: Sequence[int], port: int) -> str:
    """Return a configuration with these ports of loopback in place of the names of the cells and of port 80.

    Fails if it does not name each cell, so that a changed file is not tested as something else.
    """
    for number, cell in enumerate(cells):
        name = f"cell-{number}.example:2048"
        assert name in text
        text = text.replace(name, f"127.0.0.1:{cell}")
    assert ".example" not in text
    text, count = re.subn(r"^( +(?:listen|bind)) :?80\b", rf"\1 127.0.0.1:{port}", text, flags=re.MULTILINE)
    assert count == 1
    return text


@contextlib.asynccontextmanager
async def balancer(kind: str, folder: Path, cells: Sequence[int], *, logins: int) -> AsyncIterator[int]:
    """Run nginx or HAProxy before the cells at these ports, each with so many logins; give its own port."""
    folder.mkdir()
    port = free_range(1)
    program = shutil.which(kind, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, f"{kind} is not installed; scripts/balancers-setup installs it"
    if kind == "nginx":
        (folder / "balancer.conf").write_text(with_addresses((FOLDER / "nginx.conf").read_text(), cells, port))
        user = "user root;" if os.geteuid() == 0 else ""  # its workers need the folder, which is the test's alone
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, user=user))
        command = [program, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(folder / "nginx.conf")]
    else:
        text = with_addresses((FOLDER / "haproxy.cfg").read_text(), cells, port)
        assert "maxconn 4" in text
        # One process: it ends with the test, and has no user to change to.
        text = text.replace("maxconn 4", f"maxconn {logins}")
        (folder / "haproxy.cfg").write_text(text)
        command = [program, "-db", "-f", str(folder / "haproxy.cfg")]
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(*DIES_WITH_PARENT, *command, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(HANG_LIMIT_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.returncode is None, (folder / "output").read_text()
                await asyncio.sleep(0.02)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
