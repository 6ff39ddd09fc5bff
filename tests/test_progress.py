"""How work shows itself: a bar on a terminal, whole lines elsewhere, and every text as it is."""

import io

import pytest
from rich.console import Console

from refnet import progress
from refnet.progress import Live, Plain, Quiet


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("refnet.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def live():
    stream = io.StringIO()
    return Live(Console(file=stream, force_terminal=True, width=60, color_system=None, _environ={})), stream


# Where to


def test_a_terminal_gets_a_bar_and_anything_else_lines():
    assert isinstance(progress.on(Terminal()), Live)
    assert isinstance(progress.on(io.StringIO()), Plain)


def test_a_closed_stream_gets_nothing():
    show = progress.on(None)
    show.say("into the void")
    with show.task("work", 2) as advance:
        advance(1)


# Lines


def test_plain_lines_are_whole_and_flushed():
    class Stream(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    stream = Stream()
    Plain(stream).say("one [bold]line[/bold] :smile: " + "x" * 200)
    assert stream.flushed == "one [bold]line[/bold] :smile: " + "x" * 200 + "\n"


def test_a_short_task_prints_nothing(clock):
    stream = io.StringIO()
    with Plain(stream).task("epoch 1", 3) as advance:
        for done in (1, 2, 3):
            clock[0] += 3
            advance(done, remark="loss 1")
    assert stream.getvalue() == ""


def test_a_long_task_prints_now_and_then(clock):
    stream = io.StringIO()
    with Plain(stream, every=10).task("epoch 1", 100) as advance:
        for done in range(1, 101):
            clock[0] += 4
            advance(done, remark=f"loss {done}")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["epoch 1: 3/100 loss 3", "epoch 1: 6/100 loss 6"]
    assert len(lines) == 33


def test_a_total_may_come_late_and_a_remark_never(clock):
    stream = io.StringIO()
    with Plain(stream).task("reading images") as advance:
        clock[0] += 11
        advance(5, 20)
    assert stream.getvalue() == "reading images: 5/20\n"


# A terminal


@pytest.mark.parametrize(
    "line", ["", "plain", "[red]no markup[/red]", "[/]", "runs/a [b] \\[c]", "12 'x' 3.5 http://x"]
)
def test_live_lines_are_the_text_as_it_is(live, line):
    show, stream = live
    show.say(line)
    assert stream.getvalue() == line + "\n"


def test_live_lines_have_no_emoji_of_richs_own(live):
    show, stream = live
    show.say("runs/a:smile:b")
    assert stream.getvalue() == "runs/a:smile:b\n"


def test_live_lines_are_broken_by_the_terminal_alone(live):
    show, stream = live
    show.say("run " + "long/" * 30)
    assert stream.getvalue() == "run " + "long/" * 30 + "\n"


def test_live_tasks_show_how_far_and_remark(live):
    show, stream = live
    with show.task("epoch 7", 41) as advance:
        advance(17, remark="loss 1.2345  99 images/s")
    assert "epoch 7" in stream.getvalue()
    assert "17/41" in stream.getvalue()
    assert "loss 1.2345  99 images/s" in stream.getvalue()


def test_live_tasks_learn_their_total(live):
    show, stream = live
    with show.task("reading images") as advance:
        advance(5, 20)
    assert "5/20" in stream.getvalue()


def test_a_failing_task_gives_the_terminal_back(live):
    show, stream = live
    with pytest.raises(KeyboardInterrupt), show.task("epoch 1", 3):
        raise KeyboardInterrupt
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")  # the cursor is shown again


# Nowhere


def test_quiet_says_nothing(capsys):
    show = Quiet()
    show.say("hello")
    with show.task("work", 3) as advance:
        advance(1)
        advance(2, 3, remark="x")
    assert capsys.readouterr() == ("", "")
