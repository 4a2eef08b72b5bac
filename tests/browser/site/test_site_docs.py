"""What the docs and editors are told of site files is what the program takes."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from api_utils.prompt_form import DEFAULT_FORM, PromptForm
from browser.site.docs import REFERENCE_FILE, SCHEMA_FILE, json_schema, reference_markdown
from browser.site.load import SITES_DIR, parse_site
from browser.site.schema import PromptTexts, Site
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages
from tests.browser.profiles import cookie_state
from tests.browser.site.test_site_files import GOOD, MISTAKES

ROOT = Path(__file__).resolve().parents[3]
_FENCED = re.compile(r"^(`{3,})toml\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
GUIDE, *FRAGMENTS = [text for _, text in _FENCED.findall((ROOT / "docs/sites.md").read_text())]
AGAIN = "run: python -m browser.site.docs"


def editor() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text()))


def test_the_schema_for_editors_is_the_one_that_checks() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), AGAIN
    jsonschema.Draft7Validator.check_schema(json_schema())


def test_the_reference_is_current() -> None:
    assert REFERENCE_FILE.read_text() == reference_markdown(), AGAIN


@pytest.mark.parametrize("file", sorted(SITES_DIR.glob("*.toml")), ids=lambda file: str(file.stem))
def test_editors_find_the_schema_and_no_mistake_in_what_is_shipped(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("#:schema ./site.schema.json\n")
    assert (file.parent / "site.schema.json").is_file()
    assert list(editor().iter_errors(tomllib.loads(text))) == []


def test_editors_see_most_mistakes() -> None:
    """All but what only the program can know: what an expression means, which keys need each other."""
    good = editor()
    seen = [bool(list(good.iter_errors(tomllib.loads(GOOD.replace(old, new))))) for old, new, *_ in MISTAKES]
    assert sum(seen) >= 0.6 * len(MISTAKES)


async def test_the_file_of_the_guide_works(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(parse_site(GUIDE, "my-site.toml", url=f"{demo.url}/chat"), cookie_state(demo))
    assert page.status.capture == "network"
    check_answer(await ask(page, "hello"), "hello", last(demo))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda text: text.splitlines()[0])
def test_the_fragments_of_the_guide_are_right(fragment: str) -> None:
    file: dict[str, Any] = tomllib.loads(GUIDE)
    for key, value in tomllib.loads(fragment).items():
        file[key] = {**file[key], **value} if key == "capture" else value
    assert list(editor().iter_errors(file)) == []
    Site.model_validate_json(json.dumps(file))


def test_the_guide_shows_the_words_that_hold_by_default() -> None:
    [shown] = [texts for fragment in FRAGMENTS if (texts := tomllib.loads(fragment).get("prompt"))]
    default = dataclasses.asdict(DEFAULT_FORM)
    assert {key: text.removeprefix("\n") for key, text in shown.items()} == default
    assert set(default) == set(PromptTexts.model_fields)
    assert PromptForm.of(PromptTexts.model_validate(default)) == DEFAULT_FORM, "what the guide shows is valid"


def test_the_expressions_of_the_guide_are_right() -> None:
    guide = (ROOT / "docs/sites.md").read_text()
    snippets = re.findall(r"`((?:text|whole|reasoning|same|start|message|document) = \"[^`]*\")`", guide)
    assert len(snippets) >= 8
    for snippet in snippets:
        settings = {"kind": "sse", "url": "*", "text": "data"} | tomllib.loads(snippet.replace('", ', '"\n'))
        if "document" in settings:
            settings["changes"] = "data.patch"
        file = tomllib.loads(GUIDE) | {"capture": {"network": settings}}
        Site.model_validate_json(json.dumps(file))
