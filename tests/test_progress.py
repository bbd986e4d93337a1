"""Bars on a terminal, plain lines elsewhere, nothing on standard output, and no Ctrl-C that gets lost."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import weakref

import pytest

from edge_van.progress import SILENT, Terminal, no_signal_lost, signals_wait
from edge_van.text import one_line

STAGES = """
from edge_van.progress import Terminal
t = Terminal()
with t.stage("Counting", 3) as advance:
    for _ in range(3):
        advance(1)
with t.stage("Thinking") as advance:
    advance(1)
t.note("warning: a[b] :dog:")
"""


class Named:
    """Something a weak reference can point at."""


def test_plain_lines_where_there_is_no_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", STAGES], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    assert done.stderr == "Counting ...\nThinking ...\nwarning: a[b] :dog:\n"


def test_bars_on_a_terminal() -> None:
    reader, writer = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", STAGES], stdout=subprocess.PIPE, stderr=writer, env=env, check=True, timeout=60
    )
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 65536):
            shown += part
    except OSError:  # how a terminal whose other end is closed says so
        pass
    os.close(reader)
    assert done.stdout == b""
    assert b"Counting" in shown
    assert b"3/3" in shown
    assert b"\x1b[2K" in shown  # the line is erased: gone when done
    assert b"..." not in shown


def test_a_note_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().note("a\nb\x1b[31m\udcff " + "c" * 300)
    assert capsys.readouterr().err == "a\\nb\\x1b[31m\\udcff " + "c" * 300 + "\n"
    assert one_line("Käse, 画像") == "Käse, 画像"


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    with SILENT.stage("x", 3) as advance:
        advance(1)
    SILENT.note("x")
    assert capfd.readouterr() == ("", "")


def interrupt_in_a_callback() -> None:
    """SIGINT while a weak reference's callback runs: Python prints "Exception ignored" and goes on."""
    thing = Named()
    _reference = weakref.ref(thing, lambda gone: signal.raise_signal(signal.SIGINT))
    del thing


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("hears_sigint")
def test_an_interrupt_that_python_drops_is_raised_at_the_next_step() -> None:
    with pytest.raises(KeyboardInterrupt), Terminal().stage("x", 2) as advance:  # noqa: PT012
        interrupt_in_a_callback()
        advance(1)
        pytest.fail("advance() did not raise")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("hears_sigint")
def test_an_interrupt_that_python_drops_ends_the_stage() -> None:
    with pytest.raises(KeyboardInterrupt), Terminal().stage("x"):
        interrupt_in_a_callback()


@pytest.mark.usefixtures("hears_sigint")
def test_an_interrupt_that_an_engine_makes_an_error_of() -> None:
    with pytest.raises(KeyboardInterrupt), no_signal_lost():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("from C++") from None


@pytest.mark.usefixtures("hears_sigint")
def test_other_errors_pass() -> None:
    with pytest.raises(ValueError), no_signal_lost():
        raise ValueError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_cannot_be_interrupted(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, frame: heard.append(number))
    try:
        with signals_wait():
            signal.raise_signal(number)
            assert heard == []
        assert heard == [number]
        with contextlib.suppress(ImportError), signals_wait():
            signal.raise_signal(number)
            raise ImportError
        assert heard == [number, number]
        signal.raise_signal(number)
        assert heard == [number] * 3
    finally:
        signal.signal(number, before)
