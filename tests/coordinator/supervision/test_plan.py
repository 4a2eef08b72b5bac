from __future__ import annotations

import math
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.surroundings import Surroundings
from coordinator.errors import MemoryPlanError, PortConflict
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.supervision.memory import MemoryLimit, browsers_needed, memory_limit, plan_memory
from coordinator.supervision.ports import PortPlan, StreamPorts, check_ports_free
from tests.support.ports import free_range

ports = st.integers(1, 65535)


def fits(plan: PortPlan, count: int) -> bool:
    try:
        plan.check(count)
    except PortConflict:
        return False
    return True


# Ports


def test_slots_follow_each_other_by_the_step() -> None:
    plan = PortPlan(2048, base_api_port=3100, base_stream_port=3200, step=10)
    assert [(s.index, s.api_port, s.stream_port) for s in map(plan.slot, range(3))] == [
        (0, 3100, 3200),
        (1, 3110, 3210),
        (2, 3120, 3220),
    ]


@pytest.mark.parametrize(
    ("plan", "count", "message"),
    [
        (
            PortPlan(2048, 3100, 3105),
            6,
            (
                r"Port 3105 is wanted twice: by child 1's stream \(BASE_STREAM_PORT=3105\) and by child 6's API "
                r"\(BASE_API_PORT=3100\); with PORT_STEP=1 there is room for 5 children"
            ),
        ),
        (
            PortPlan(3102, 3100, 3200),
            4,
            r"Port 3102 is wanted twice: by the coordinator \(COORDINATOR_PORT=3102\) and by child 3's API",
        ),
        (PortPlan(3200, 3100, 3200), 1, r"Port 3200 .* by the coordinator .* and by child 1's stream"),
        (PortPlan(2048, 3100, 3100), 1, r"Port 3100 is wanted twice: by child 1's API .* and by child 1's stream"),
        (PortPlan(2048, 3100, 65530, step=5), 3, r"Port 65540 of child 3's stream .* is not between 1 and 65535"),
    ],
)
def test_a_conflict_names_the_port_and_both_owners(plan: PortPlan, count: int, message: str) -> None:
    with pytest.raises(PortConflict, match=message):
        plan.check(count)
    plan.check(plan.capacity())


def test_spare_browsers_take_the_stream_ports_after_those_of_the_children() -> None:
    plan = PortPlan(2048, 3100, 3200, spares=2)
    assert [port for port, _ in plan.wanted(2)] == [2048, 3100, 3200, 3101, 3201, 3202, 3203]
    plan = PortPlan(3203, 3100, 3200, spares=2)
    with pytest.raises(
        PortConflict, match=r"by the coordinator .* and by spare browser 2's stream \(BASE_STREAM_PORT="
    ):
        plan.check(2)
    assert plan.capacity() == 1


@given(ports, ports, ports, st.integers(1, 500), st.integers(0, 9))
def test_the_capacity_is_the_largest_count_that_fits(
    coordinator: int, api: int, stream: int, step: int, spares: int
) -> None:
    plan = PortPlan(coordinator, api, stream, step, spares)
    capacity = plan.capacity()
    probed = min(capacity, 200)
    assert fits(plan, probed) or capacity == 0
    if capacity < 200:
        assert not fits(plan, capacity + 1)


def test_a_port_in_use_names_the_child_that_needs_it() -> None:
    first = free_range(4)
    plan = PortPlan(2048, first, first + 2)
    check_ports_free(plan, 2)
    with socket.create_server(("127.0.0.1", first + 3)):
        wanted = f"Port {first + 3} for child 2's stream (BASE_STREAM_PORT={first + 2}) is in use"
        with pytest.raises(PortConflict, match=re.escape(wanted)):
            check_ports_free(plan, 2)
        check_ports_free(plan, 1)


def test_a_stream_port_is_the_lowest_that_no_other_browser_has() -> None:
    ports = StreamPorts(3200, 10)
    assert [ports.take() for _ in range(3)] == [3200, 3210, 3220]
    ports.give_back(3210)
    ports.give_back(3210)
    assert [ports.take(), ports.take()] == [3210, 3230]


def test_the_coordinators_own_port_is_not_checked() -> None:
    first = free_range(2)
    with socket.create_server(("127.0.0.1", 0)) as own:
        check_ports_free(PortPlan(own.getsockname()[1], first, first + 1), 1)


# Memory


def limit(mib: int) -> MemoryLimit:
    return MemoryLimit(mib << 20, "cgroup v2 memory.max")


def test_a_plan_that_fits_gives_no_warning() -> None:
    assert plan_memory(2, "chromium", limit(2048)) is None
    assert plan_memory(1000, "chromium", None) is None


def test_a_tight_plan_gives_a_warning_with_the_count_that_fits() -> None:
    assert plan_memory(3, "chromium", limit(1900)) == (
        "3 children need about 1828 MiB (576 MiB each with chromium), but cgroup v2 memory.max allows 1900 MiB; "
        "set MAX_CHILDREN=2, or give it more memory."
    )


@pytest.mark.parametrize("engine", ["firefox", "camoufox"])
def test_a_plan_far_beyond_the_limit_is_refused(engine: str) -> None:
    with pytest.raises(MemoryPlanError, match=r"20 children need about 14160 MiB .* set MAX_CHILDREN=5,"):
        plan_memory(20, engine, limit(4096))


def test_when_not_even_one_child_fits_no_number_is_named() -> None:
    with pytest.raises(MemoryPlanError, match=r"1 child needs about 676 MiB .* allows 256 MiB; give it more memory"):
        plan_memory(1, "chromium", limit(256))


def test_logins_that_share_browsers_take_what_each_further_one_takes() -> None:
    assert plan_memory(8, "chromium", limit(1700), lambda count: math.ceil(count / 4)) is None
    assert plan_memory(8, "chromium", limit(1500), lambda count: math.ceil(count / 4)) == (
        "8 children in 2 browsers need about 1462 MiB (576 MiB a browser and 35 MiB each further login with chromium), "
        "but cgroup v2 memory.max allows 1500 MiB; set MAX_CHILDREN=4, or give it more memory."
    )
    line = plan_memory(2, "firefox", limit(900), lambda _: 1)
    assert line is not None
    assert line.startswith("2 children in 1 browser need about 872 MiB (703 MiB a browser and 69 MiB each")


def test_spare_browsers_count_as_browsers_and_are_given_up_before_children() -> None:
    assert plan_memory(2, "chromium", limit(2048), spares=0) is None
    assert plan_memory(1, "chromium", limit(1500), spares=2) == (
        "1 child and 2 spare browsers need about 1828 MiB (576 MiB each with chromium), but cgroup v2 memory.max "
        "allows 1500 MiB; set SPARE_BROWSERS=1, or give it more memory."
    )
    line = plan_memory(3, "chromium", limit(1900), spares=1)
    assert line is not None
    assert line.startswith("3 children and 1 spare browser need about 2404 MiB")
    assert line.endswith("set SPARE_BROWSERS=0 and MAX_CHILDREN=2, or give it more memory.")
    shared = plan_memory(8, "chromium", limit(2200), lambda count: math.ceil(count / 4), spares=1)
    assert shared is not None
    assert shared.startswith("8 children in 2 browsers and 1 spare browser need about 2038 MiB (576 MiB a browser and")


def test_a_browser_is_shared_by_logins_of_one_site_without_proxies_of_their_own() -> None:
    proxied = Login(surroundings=Surroundings(proxy="http://127.0.0.1:9"))
    logins = [PLAIN, PLAIN, PLAIN, Login(site="other"), proxied, proxied]
    assert browsers_needed(logins, 1) == 6
    assert browsers_needed(logins, 2) == 5
    assert browsers_needed(logins, 16) == 4
    assert browsers_needed([], 4) == 0


@given(st.integers(1, 500), st.sampled_from(["chromium", "firefox", "camoufox"]), st.integers(64, 1 << 20))
def test_the_suggested_count_fits_and_is_the_largest(children: int, engine: str, mib: int) -> None:
    try:
        line = plan_memory(children, engine, limit(mib))
    except MemoryPlanError as error:
        line = str(error)
    named = re.search(r"MAX_CHILDREN=(\d+)", line or "")
    if named:
        assert 0 < int(named[1]) < children
        assert plan_memory(int(named[1]), engine, limit(mib)) is None
        assert plan_memory_complains(int(named[1]) + 1, engine, mib)


def plan_memory_complains(children: int, engine: str, mib: int) -> bool:
    try:
        return plan_memory(children, engine, limit(mib)) is not None
    except MemoryPlanError:
        return True


# What limits us


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal:  8388608 kB\nMemFree: 1 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GIB = 1 << 30
V1 = "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("files", "limit_bytes", "source"),
    [
        ({}, 8 * GIB, "the machine's memory"),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"}, GIB, "cgroup v2 memory.max"),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 8 * GIB, "the machine's memory"),
        (
            {
                "proc/self/cgroup": "0::/pods/one\n",
                "sys/fs/cgroup/pods/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/pods/one/memory.max": f"{2 * GIB}\n",
            },
            GIB,
            "cgroup v2 memory.max",
        ),
        (
            {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{GIB}\n"},
            GIB,
            "cgroup v1 memory.limit_in_bytes",
        ),
        (
            {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n"},
            GIB,
            "cgroup v1 memory.limit_in_bytes",
        ),
        (
            {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"},
            8 * GIB,
            "the machine's memory",
        ),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, files: dict[str, str], limit_bytes: int, source: str) -> None:
    assert memory_limit(system(tmp_path, files)) == MemoryLimit(limit_bytes, source)


def test_there_is_no_limit_without_proc(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


def test_this_machine_has_a_limit() -> None:
    found = memory_limit()
    assert found is not None
    assert found.limit_bytes > 64 << 20
