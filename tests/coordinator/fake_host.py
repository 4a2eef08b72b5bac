"""A host without a browser: several fake children in one process, started and ended by `contract.host_orders`.

A plan of hosts.json in $FAKE_CHILD_DIR is for the hosts that start from then on: `exit_code` ends one before it is up,
`never_up` has it start for ever. What ends a process (`signal`, `die_after`) ends all of them; `exit_code` ends the one
child, as a lost page does. Each start of a host is a line of hosts.starts in $FAKE_CHILD_DIR, with what it was told by
command line and environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from pathlib import Path

from contract import child_environment, host_orders
from contract.exit_codes import ExitCode
from contract.host_orders import ChildOrder, End, Ended, Full, Up
from tests.coordinator.fake_child import FakeChild, Start
from tests.coordinator.proxy.tiny_http import serve


class FakeHost:
    """Takes orders until the coordinator closes its side."""

    def __init__(self, orders: socket.socket, folder: Path | None) -> None:
        self.orders = orders
        self.folder = folder
        self.children: dict[str, HostedFake] = {}
        self.lingers = False
        self.over = asyncio.Event()

    def run(self) -> None:
        orders = self.orders.fileno()
        asyncio.get_running_loop().add_reader(orders, self.hear)

    def hear(self) -> None:
        received = host_orders.receive_order(self.orders)
        if received is None:
            asyncio.get_running_loop().remove_reader(self.orders)
            if not self.lingers:
                self.over.set()
            return
        order, descriptor = received
        if isinstance(order, End):
            if (child := self.children.get(order.end)) is not None:
                child.order_end(order)
            return
        assert descriptor is not None
        child = HostedFake(order.start, self, descriptor)
        self.children[order.start.instance_id] = child
        child.task = asyncio.create_task(child.live())

    def ended(self, child: HostedFake, code: int) -> None:
        del self.children[child.order.instance_id]
        host_orders.send(self.orders, Ended(ended=child.order.instance_id, code=code))


class HostedFake:
    """One child in this process: its life, and its lines of log."""

    def __init__(self, order: ChildOrder, host: FakeHost, log: int) -> None:
        self.order, self.host, self.log = order, host, log
        start = Start(
            order.name,
            order.run_dir,
            order.site,
            order.site_shown,
            order.instance_id,
            order.generation,
            order.control_token,
            order.site_url,
        )
        self.fake = FakeChild(start, host.folder, lambda text: os.write(log, text.encode()))
        self.fake.exit = self.exit
        self.exit_code = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def exit(self, code: int) -> None:
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    def order_end(self, order: End) -> None:
        behaviour = self.fake.behaviour
        if order.how == "term" and not behaviour.ignore_term:
            self.exit(0)
        elif order.how == "kill" and not behaviour.ignore_kill:
            self.exit(ExitCode.STOPPED)

    async def live(self) -> None:
        self.fake.begin()
        if self.fake.behaviour.full:
            host_orders.send(self.host.orders, Full())
        server: asyncio.Server | None = None
        connections = set[asyncio.StreamWriter]()
        if not self.exit_code.done() and not self.fake.behaviour.never_listen:
            try:
                server = await serve(self.fake.route, self.order.api_port, connections)
            except OSError:
                os.write(self.log, f"port {self.order.api_port} is in use\n".encode())
                self.exit(ExitCode.PORT_IN_USE)
        code = await self.exit_code
        self.host.lingers |= self.fake.behaviour.linger
        if server is not None:
            server.close()
        for connection in connections:
            connection.transport.abort()
        answers = tuple(self.fake.running.values())
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        self.fake.end_browsers()
        os.close(self.log)
        self.host.ended(self, code)


async def run(descriptor: int, stream_port: int) -> int:
    folder = os.environ.get("FAKE_CHILD_DIR")
    if folder:
        told = {"pid": os.getpid(), "arguments": sys.argv[1:], "environment": dict(os.environ), "stream": stream_port}
        with (Path(folder) / "hosts.starts").open("a") as file:
            file.write(json.dumps(told) + "\n")
    try:
        await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", stream_port)
    except OSError:
        return ExitCode.PORT_IN_USE
    plan = Path(folder or ".") / "hosts.json"
    given = json.loads(plan.read_text()) if folder and plan.exists() else {}
    if "exit_code" in given:
        return int(given["exit_code"])
    host = FakeHost(socket.socket(fileno=descriptor), Path(folder) if folder else None)
    host.run()
    if not given.get("never_up"):
        host_orders.send(host.orders, Up())
    await host.over.wait()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stream-port", type=int, required=True)
    parser.add_argument(host_orders.HOST_FLAG, type=int, required=True)
    arguments, _ = parser.parse_known_args()
    parent = os.environ.get(child_environment.PARENT_PID)
    if parent and os.getppid() != int(parent):
        return ExitCode.PARENT_GONE
    return asyncio.run(run(arguments.host, arguments.stream_port))
