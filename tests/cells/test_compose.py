"""docker/compose.cells.yaml: what it promises, and the whole of it for real, with browsers and the OpenAI client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from openai import OpenAI

from tests.cells.compose import CELLS, Compose, kill, running
from tests.e2e.fleet import MODEL, eventually
from tests.support.api_clients import openai_client
from tests.support.etcd import all_values

LOGINS = ["ada", "grace", "user1"]


def test_only_the_balancer_is_reached_and_that_on_loopback(tmp_path: Path) -> None:
    services = Compose(tmp_path).services
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"balancer"}
    assert all(port.startswith("127.0.0.1:") for port in published["balancer"])


def test_the_cells_differ_by_their_names_alone(tmp_path: Path) -> None:
    services = Compose(tmp_path).services
    for name in CELLS:
        environment = services[name]["environment"]
        assert environment["CELL"] == name
        assert services[name]["networks"]["default"]["aliases"] == [f"{name}.example"]
        assert {**environment, "CELL": ""} == {**services[CELLS[0]]["environment"], "CELL": ""}
        assert "healthcheck" in services[name]
        assert services[name]["stop_grace_period"] == "50s"
        # Two cells hold all logins.
        assert int(environment["MAX_CHILDREN"]) * (len(CELLS) - 1) >= len(LOGINS)


def test_no_secret_stands_in_the_file_and_each_service_sees_its_own_alone(tmp_path: Path) -> None:
    compose = Compose(tmp_path)
    for name, service in compose.services.items():
        for variable, value in service.get("environment", {}).items():
            if "SECRET" in variable or "KEY" in variable:
                assert variable.endswith("_FILE") or (variable, value) in {
                    ("REQUIRE_API_KEY", "true"),
                    ("AWS_ACCESS_KEY_ID", "READER"),
                    ("AWS_ACCESS_KEY_ID", "ADMIN"),
                }, (name, variable)
    assert len({compose.secrets(name) for name in ("etcd", "cell-0", "s3")}) == 3
    assert {compose.secrets(name) for name in CELLS} == {compose.secrets("cell-0")}
    assert {compose.secrets(name) for name in ("s3", "seed")} == {compose.secrets("s3")}


@pytest.mark.slow
def test_a_prompt_is_answered_and_the_logins_of_a_killed_cell_are_served_by_the_others(tmp_path: Path) -> None:
    with running(tmp_path) as fleet:
        eventually(lambda: fleet.served() == LOGINS, timeout_s=180, what="each login in one cell")
        client = openai_client(fleet.url, fleet.api_key)
        assert _ask(client, "before") != ""
        dead = next(cell for cell in fleet.cells if cell.logins())
        lost = dead.logins()
        kill(dead)
        eventually(lambda: fleet.served() == LOGINS, timeout_s=180, what=f"{lost} in another cell")
        left = [cell for cell in fleet.cells if cell is not dead]
        assert sorted(login for cell in left for login in cell.logins()) == LOGINS
        for number in range(2 * len(LOGINS)):
            assert _ask(client, f"after {number}") != ""
        _is_known_by_certificate_alone(fleet.compose.variables("cell-0"))
        shown = left[0].ready()["claims"]
        assert (shown["cells"], shown["lost"], shown["store_reached"]) == ([cell.name for cell in left], 0, True)


def _is_known_by_certificate_alone(cell: Mapping[str, str]) -> None:
    """Check that etcd serves who has the cells' certificate, and nobody else."""
    context = ssl.create_default_context(cafile=cell["CLAIMS_CA_FILE"])
    with pytest.raises(OSError, match=r"ssl|reset"):
        all_values(cell["CLAIMS_URL"], context)
    context.load_cert_chain(cell["CLAIMS_CERT_FILE"], cell["CLAIMS_KEY_FILE"])
    assert {f"/tabfleet/claims/{login}" for login in LOGINS} <= all_values(cell["CLAIMS_URL"], context).keys()


def _ask(client: OpenAI, text: str) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""
