"""docs/examples.py runs the examples of the pages, and fails if a page shows another output."""

import pytest
import scripts

PAGE = "Before.\n\n```python run\nprint(6 * 7)\n```\n```text\n{}\n```\n\nAfter.\n"


@pytest.fixture(scope="module")
def examples():
    return scripts.load("docs/examples.py")


def test_a_right_page_stays_as_it_is(examples):
    assert examples.renewed(PAGE.format(42), {"run"}) == (PAGE.format(42), 1)


def test_a_wrong_output_is_replaced(examples):
    assert examples.renewed(PAGE.format(41), {"run"}) == (PAGE.format(42), 1)


def test_a_wrong_page_is_an_error(examples, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(41))
    monkeypatch.setattr("sys.argv", ["examples.py", str(page)])
    assert examples.main() == 1
    assert "-41" in capsys.readouterr().out
    assert page.read_text() == PAGE.format(41)


def test_what_is_recorded_runs_only_when_asked(examples):
    page = PAGE.format(41).replace("python run", "python recorded")
    assert examples.renewed(page, {"run"}) == (page, 0)
    assert "42" in examples.renewed(page, {"run", "recorded"})[0]


@pytest.mark.parametrize("code", ["print(6 * 7", "raise SystemExit(3)"])
def test_an_example_that_fails_is_an_error(examples, code):
    with pytest.raises(SystemExit, match="an example failed"):
        examples.renewed(PAGE.format(42).replace("print(6 * 7)", code), {"run"})


def test_an_example_without_an_output_is_an_error(examples):
    with pytest.raises(SystemExit, match="not followed by its output"):
        examples.renewed("```sh run\nrefnet\n```\n", {"run"})
