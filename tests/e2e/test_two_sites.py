"""Two sites behind one API: each login has its site by the fleet file, and the model's name chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.fleet import ROOT, Site, demo_site, fleet, log_in_by_request

FILE = """\
[[login]]
name = "ada"
site = "./one.toml"

[[login]]
name = "grace"
site = "./two.toml"
locale = "de-DE"
timezone = "Europe/Berlin"

[alias]
fast = ["two/demo-small", "demo-large"]
"""


def site_file(site: Site, *, models: tuple[str, ...]) -> str:
    """The demo's site file for a demo at another address, with these of its models."""
    text = (ROOT / "sites/demo.toml").read_text().replace("http://127.0.0.1:8800", site.url)
    for model in {"demo-small", "demo-large", "demo-echo"}.difference(models):
        begin = text.index(f'[[models]]\nname = "{model}"')
        text = text[:begin] + text[text.index("\n\n", begin) + 2 :]
    return text


@pytest.mark.slow  # tests/coordinator/test_fleet_file.py and proxy/test_aliases.py show it without browsers
def test_the_models_name_chooses_the_site(site: Site, tmp_path: Path) -> None:
    profiles = log_in_by_request(site, tmp_path / "active", users=["ada"])
    with demo_site() as other:
        log_in_by_request(other, profiles, users=["grace"])
        (tmp_path / "one.toml").write_text(site_file(site, models=("demo-small", "demo-large")))
        (tmp_path / "two.toml").write_text(site_file(other, models=("demo-small",)))
        (tmp_path / "fleet.toml").write_text(FILE)
        settings = {"FLEET_FILE": str(tmp_path / "fleet.toml"), "CHAT_SITE": "", "SITE_URL": ""}
        with fleet(site, profiles, tmp_path / "fleet", **settings) as running:
            running.wait_for(ada="READY", grace="READY")
            client = running.client(max_retries=0)
            assert {model.id: model.owned_by for model in client.models.list()} == {
                "demo-small": "one, two",
                "demo-large": "one",
                "one/demo-small": "one",
                "two/demo-small": "two",
                "fast": "tabfleet",
            }

            def ask(model: str, prompt: str) -> tuple[str, str]:
                """Ask; return which site had the prompt, and which model it was asked for by the answer."""
                before = {"one": site.last_id(), "two": other.last_id()}
                answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
                text = answer.choices[0].message.content or ""
                entries = {"one": site.ledger(since=before["one"]), "two": other.ledger(since=before["two"])}
                (reached,) = [name for name, found in entries.items() if any(e["token"] in text for e in found)]
                return reached, answer.model

            assert ask("one/demo-small", "a") == ("one", "demo-small")
            assert ask("two/demo-small", "b") == ("two", "demo-small")
            assert ask("demo-large", "c") == ("one", "demo-large")
            assert ask("fast", "d") == ("two", "demo-small")
            # The site itself says that it did not take the prompt: the alias's next model answers.
            other.fault("quota")
            assert ask("fast", "e") == ("one", "demo-large")
            # From then on the first has no ready login.
            running.wait_for(grace="RESTING")
            assert ask("fast", "f") == ("one", "demo-large")
            assert ask("demo-small", "g") == ("one", "demo-small")
