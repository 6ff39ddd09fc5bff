"""Progress: a bar on a terminal, whole lines elsewhere, and every text printed literally."""

import io
import re

import pytest
from rich.console import Console

from refnet.terminal import progress
from refnet.terminal.progress import Lasting, Live, Pace, Plain, Quiet
from refnet.terminal.spelling import setting, with_arguments


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("refnet.terminal.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def live():
    stream = io.StringIO()
    return Live(Console(file=stream, force_terminal=True, width=60, color_system=None, _environ={})), stream


# Spelling of settings in messages that are stored


def test_each_display_spells_settings_for_its_reader():
    message = f"a smaller {setting('batch', 16)}"
    assert Plain(io.StringIO()).spell(message) == "a smaller --batch 16"
    assert Lasting(Plain(io.StringIO(), spelling=with_arguments)).spell(message) == "a smaller batch=16"
    assert Quiet().spell(message) == "a smaller batch=16"


# Where to


def test_a_terminal_gets_a_bar_and_anything_else_lines():
    assert isinstance(progress.on(Terminal()), Live)
    assert isinstance(progress.on(io.StringIO()), Plain)


def test_a_closed_stream_gets_nothing():
    show = progress.on(None)
    show.say("into the void")
    with show.task("work", 2) as advance:
        advance(1)


def test_a_note_is_no_part_of_the_output(capsys):
    out, err = io.StringIO(), capsys.readouterr
    Plain(out).note("compiling")
    assert (out.getvalue(), err().err) == ("", "compiling\n")
    terminal = io.StringIO()
    Live(Console(file=terminal, force_terminal=True, _environ={})).note("compiling")
    assert (terminal.getvalue(), err().err) == ("compiling\n", "")
    Quiet().note("compiling")
    assert err().err == ""


def test_a_note_to_a_closed_stream(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    Plain(io.StringIO()).note("compiling")

    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    Lasting(Plain(io.StringIO())).note("compiling")


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


# The time left


def test_the_time_left_is_that_of_the_whole_where_it_is_told(live):
    show, stream = live
    with show.task("epoch 1", 4) as advance:
        advance(1, left=3725)
    assert "1:02:05" in stream.getvalue()
    plain = io.StringIO()
    with Plain(plain, every=0).task("epoch 1", 4) as advance:
        advance(1, remark="loss 2", left=3725)
    assert plain.getvalue() == "epoch 1: 1/4 loss 2  1:02:05 left\n"


def test_in_a_narrow_terminal_the_remark_is_cut_and_nothing_else():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=50, color_system=None, _environ={})
    with Live(console).task("epoch 12", 41) as advance:
        advance(27, remark="loss 1.4763  2562 images/s  error 20.00%  ███▇▇▆▄▄▃▃▁▁▁", left=3725)
    assert "27/41 1:02:05 loss 1.4763" in stream.getvalue()
    lines = re.split(r"[\r\n]|\x1b\[[^a-zA-Z]*[a-zA-Z]", stream.getvalue())
    assert max(map(len, lines)) == 50


def test_a_pace_is_that_of_the_parts_after_the_first_and_of_all_between_them(clock):
    pace = Pace()
    clock[0] += 60  # compiling
    assert pace.left(9) is None
    clock[0] += 2
    assert pace.left(8) == 16
    clock[0] += 6  # validating, too
    assert pace.left(7) == 28


@pytest.mark.parametrize(("seconds", "says"), [(0, "0:00:00"), (59.6, "0:01:00"), (90_000, "1 day, 1:00:00")])
def test_a_clock_has_hours_minutes_and_seconds(seconds, says):
    assert progress.clock(seconds) == says


def line_of(stream, *spelling):
    progress.on(stream, *spelling).say(f"warning: a smaller {setting('batch', 16)} needs less")
    return stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_line_has_flags_for_the_command_and_arguments_for_python(kind):
    assert line_of(kind()) == "warning: a smaller --batch 16 needs less\n"
    assert line_of(kind(), with_arguments) == "warning: a smaller batch=16 needs less\n"


# Nowhere


def test_quiet_says_nothing(capsys):
    show = Quiet()
    show.say("hello")
    with show.task("work", 3) as advance:
        advance(1)
        advance(2, 3, remark="x")
    assert capsys.readouterr() == ("", "")
