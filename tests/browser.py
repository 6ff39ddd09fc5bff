"""A run's page in a real browser: nothing leaves it, nothing complains, nothing is cut off. Run by ``nox -s pages``."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from refnet.cli import main


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "tiny"
    assert main(["train", "--json", "--run-dir", str(run), "--max-steps", "30", "--backend", "numpy"]) == 0
    assert main(["report", str(run), "--backend", "numpy"]) == 0
    return run / "report.html"


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "there is no program chromium; install it with: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_whole_silent_and_alone(page_file, browser, tmp_path, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    shot = tmp_path / f"{width}-{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 384) == (scheme == "dark")
    assert shot.stat().st_size > 10_000
    page.close()


def test_the_check_would_see_a_request(page_file, browser, tmp_path):
    spoiled = tmp_path / "spoiled.html"
    text = page_file.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">', 1)
    spoiled.write_text(text)
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(spoiled.as_uri())
    assert any("Content Security Policy" in line or "Content-Security-Policy" in line for line in said)
    page.close()
