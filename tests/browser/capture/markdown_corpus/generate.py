"""Writes fixtures.json: what the packages of package.json and requirements/markdown-corpus.txt make of sources/*.md.

Run by scripts/markdown-corpus, with the folder where the npm packages are and the Python that has the others.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Route, async_playwright

from browser.process.engine import find_executable
from browser.settings import BrowserSettings

FOLDER = Path(__file__).parent
EDITED = "// code\nconst a = `t${1}`;\n\n\tif (a) {\n  \treturn  a;\n}"
FORMULAS = r"""<p>Inline \(x^2 + \frac{1}{2}\) and \(a_i\) in words.</p>
<p>\[\int_0^1 f(x)\,dx = 1\]</p>
<p>after</p>"""
DRAWN_S = 60.0
MATHJAX = {
    "mathjax-3": "mathjax-full/es5/tex-chtml.js",
    "mathjax-4": "@mathjax/src/bundle/tex-chtml.js",
    "mathjax-4-svg": "@mathjax/src/bundle/tex-svg.js",
}
SERVED = "http://corpus.test/"
"""Where a browser finds the npm packages: MathJax 4 loads its fonts and its worker for speech from beside itself."""


def main(npm: Path, python: str) -> None:
    rendered = json.loads(_output("node", str(npm / "render.mjs")))
    found: dict[str, Any] = rendered["rendered"] | json.loads(
        _output(python, str(FOLDER / "python_markdown.py"), str(FOLDER / "sources"))
    )
    bundle = npm / "editors.js"
    esbuild = npm / "node_modules/.bin/esbuild"
    flags = ["--bundle", "--format=iife", "--loader:.ttf=dataurl", "--log-level=error"]
    _output(str(esbuild), str(npm / "editors.mjs"), *flags, f"--outfile={bundle}")
    found |= asyncio.run(_drawn_in_a_browser(npm, bundle))
    lock = json.loads((npm / "package-lock.json").read_text())["packages"]
    named = json.loads((npm / "package.json").read_text())["dependencies"]
    fixtures = {
        "versions": {name: lock[f"node_modules/{name}"]["version"] for name in named},
        "edited": EDITED,
        "rendered": found,
        "growing": {renderer: _differences(shown) for renderer, shown in rendered["growing"].items()},
        "late": {
            source: {renderer: _differences(shown) for renderer, shown in renderers.items()}
            for source, renderers in rendered["late"].items()
        },
    }
    (FOLDER / "fixtures.json").write_text(json.dumps(fixtures, indent=0, ensure_ascii=False) + "\n")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _differences(shown: list[str]) -> list[tuple[int, str]]:
    """Return for each HTML how much of the one before it begins, and its rest."""
    found = []
    for before, html in zip(["", *shown], shown, strict=False):
        kept = next((at for at, pair in enumerate(zip(before, html, strict=False)) if pair[0] != pair[1]), len(before))
        found.append((kept, html[kept:]))
    return found


async def _drawn_in_a_browser(npm: Path, bundle: Path) -> dict[str, Any]:
    async with async_playwright() as playwright:
        program = find_executable("chromium", BrowserSettings())
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.add_style_tag(path=str(bundle.with_suffix(".css")))
        await page.add_script_tag(path=str(bundle))
        editors: dict[str, str] = await page.evaluate("(code) => rendered(code)", EDITED)
        found = {name: {"edited": html} for name, html in editors.items()}
        for name, script in MATHJAX.items():
            html = await asyncio.wait_for(_formulas(await browser.new_page(), npm, script), DRAWN_S)
            found[name] = {"math": html}
        await browser.close()
    return found


async def _formulas(page: Page, npm: Path, script: str) -> str:
    async def serve(route: Route) -> None:
        path = npm / "node_modules" / route.request.url.removeprefix(SERVED)
        await (route.fulfill(path=path) if path.is_file() else route.fulfill(body="", content_type="text/html"))

    await page.context.route("**/*", serve)
    await page.goto(SERVED)
    await page.evaluate(
        "window.MathJax = { startup: { typeset: false }, output: { fontPath: '/@mathjax/%%FONT%%-font' } }"
    )
    await page.add_script_tag(url=f"{SERVED}{script}")
    html: str = await page.evaluate(
        """async (html) => {
          const shown = document.body.appendChild(document.createElement("div"));
          shown.innerHTML = html;
          await MathJax.startup.promise;
          await MathJax.typesetPromise([shown]);
          const isDrawn = () => speech.every((formula) => formula.hasAttribute("has-speech"));
          const speech = MathJax.version >= "4" ? [...shown.querySelectorAll("mjx-container")] : [];
          while (!isDrawn()) await new Promise((resolve) => setTimeout(resolve, 50));
          return shown.innerHTML;
        }""",
        FORMULAS,
    )
    return html


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
