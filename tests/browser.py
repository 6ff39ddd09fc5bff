"""A run in a real browser, by its page and by TensorBoard. Run by ``nox -s pages``.

Of the page: nothing leaves it, nothing complains, nothing is cut off. Of TensorBoard: it draws what the run has told.
"""

import shutil
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import sync_playwright

from refnet.cli.main import main


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "tiny"
    assert (
        main(["train", "--json", "--run-dir", str(run), "--max-steps", "30", "--backend", "numpy", "--tensorboard"])
        == 0
    )
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


@pytest.fixture(scope="module")
def board(page_file):
    """Start TensorBoard on the run, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(page_file.parent), "--host", "127.0.0.1"]
    server = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                if b"tensorboard" in urlopen(f"{address}/data/runs").read():  # noqa: S310 - our own server
                    break
            except URLError:
                pass
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


def test_tensorboard_draws_what_the_run_has_told(board, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.goto(f"{board}/#timeseries")
    for tag in ("loss/training", "images_per_second"):
        page.get_by_text(tag, exact=True).first.wait_for(timeout=120_000)
    page.locator("line-chart svg path").first.wait_for(state="attached", timeout=120_000)
    shot = tmp_path / "tensorboard.png"
    page.screenshot(path=shot)
    assert shot.stat().st_size > 10_000
    page.close()
