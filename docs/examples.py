"""Run the examples of the documentation, and check their output against the pages.

An example is a fenced block whose first line ends in ``sh run`` or ``python run``; the ``text`` block after it is its
output. A block marked ``recorded`` takes too long for every build, or its output depends on the machine's speed. It
runs only on request, and the page says when and where it ran.

::

    python docs/examples.py                     # run, and fail if an output differs
    python docs/examples.py --write             # run, and write the outputs into the pages
    python docs/examples.py --write --recorded  # the long ones too
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
BLOCK = re.compile(
    r"^```(?P<language>sh|python) (?P<kind>run|recorded)\n(?P<code>.*?)^```\n+^```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKED = re.compile(r"^```\w* (run|recorded)$", re.MULTILINE)
ENVIRONMENT = {
    "COLUMNS": "120",
    "NO_COLOR": "1",
    "OPENBLAS_NUM_THREADS": "1",  # one order of sums
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
}


def main() -> int:
    """Run the examples of the given pages, or of all pages; return 1 if one differs."""
    parser = argparse.ArgumentParser(description="Run the examples of the documentation.")
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="write the outputs into the pages")
    parser.add_argument("--recorded", action="store_true", help="also run the examples that take long")
    arguments = parser.parse_args()
    kinds = {"run", "recorded"} if arguments.recorded else {"run"}
    wrong = 0
    for page in arguments.pages or sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        new, count = renewed(text, kinds)
        if arguments.write:
            page.write_text(new)
        elif new != text:
            wrong += 1
            print(
                "".join(
                    difflib.unified_diff(text.splitlines(True), new.splitlines(True), str(page), "its output today")
                )
            )
        if count:
            print(f"{page}: {count} run", flush=True)
    return min(wrong, 1)


def renewed(text: str, kinds: set[str]) -> tuple[str, int]:
    """Return a page with the outputs that its examples of the given kinds print today, and how many ran."""
    if len(MARKED.findall(text)) != len(BLOCK.findall(text)):
        raise SystemExit("an example is not followed by its output: a block ```text, empty if it has not run yet")
    count = 0

    def run(match: re.Match[str]) -> str:
        nonlocal count
        if match["kind"] not in kinds:
            return match[0]
        count += 1
        head = match[0][: match.start("output") - match.start()]
        return f"{head}{printed(match['language'], match['code'])}```"

    return BLOCK.sub(run, text), count


def printed(language: str, code: str) -> str:
    """Run an example in an empty folder and return its output; a failure is an error."""
    command = [sys.executable, "-"] if language == "python" else ["sh", "-eu"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603 - the documentation's own examples
            command, input=code, capture_output=True, text=True, cwd=folder, env=os.environ | ENVIRONMENT, check=False
        )
    if done.returncode:
        raise SystemExit(f"an example failed with exit code {done.returncode}:\n{code}\n{done.stderr}")
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
