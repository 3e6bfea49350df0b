"""Console output: progress with and without a terminal, summaries, interrupts."""

from __future__ import annotations

import io
import signal
import sys
import time

import pytest
import typer

from derain.cli import console
from derain.cli.console import Report, interruptible
from derain.errors import InputError


@pytest.fixture
def short_interval(monkeypatch):
    monkeypatch.setattr(console, "LOG_INTERVAL", 0.01)


def wait_for(text: str, capsys) -> str:
    """The lines on stderr up to one with this text."""
    err = ""
    for _ in range(500):
        err += capsys.readouterr().err
        if text in err:
            return err
        time.sleep(0.01)
    raise AssertionError(f"{text!r} not in {err!r}")


def test_without_a_terminal_progress_is_logged(short_interval, capsys):
    with Report().progress(40, "deraining") as bar:
        for _ in range(12):
            bar.advance()
        assert wait_for("deraining: 12/40, ", capsys)
        bar.unit = "fps"
        assert wait_for(" fps", capsys)
        bar.update(13, 40, "loss 0.5")
        assert wait_for("deraining: 13/40, loss 0.5, ", capsys)
    with Report().busy("exporting"):
        assert wait_for("exporting: 0 s", capsys)
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_rates_are_readable():
    with Report(quiet=True).progress(3, "x") as bar:
        assert bar.rate(None) == ""
        assert bar.rate(2.34) == "2.3/s"
        assert bar.rate(0.32) == "3.1 s each"


def test_short_and_quiet_work_logs_nothing(capsys, monkeypatch):
    with Report().progress(2, "deraining") as bar:
        bar.advance()
    monkeypatch.setattr(console, "LOG_INTERVAL", 0.01)
    with Report(quiet=True).progress(2, "deraining") as bar, Report(quiet=True).busy("exporting"):
        bar.advance()
        time.sleep(0.05)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_bar_is_drawn_and_lines_stay_above(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    report = Report()
    with report.progress(2, "deraining", keep=True) as bar:
        report.succeed("a.png → b.png")
        with bar.item() as on_step:
            on_step(1, 2)
    text = terminal.getvalue()
    assert "a.png → b.png" in text
    assert "deraining" in text
    assert "1/2" in text
    with report.busy("exporting"):
        pass
    assert "exporting" in terminal.getvalue()


def test_an_item_counts_as_done_however_it_ends():
    with Report(quiet=True).progress(2, "x") as bar:
        with bar.item() as on_step:
            on_step(1, 4)
            on_step(3, 4)
            assert bar.done == pytest.approx(0.75)
        with pytest.raises(ValueError, match="stop"), bar.item():
            raise ValueError("stop")
        assert bar.done == pytest.approx(2)


def test_failures_are_caught_with_their_record(capsys):
    report = Report(as_json=True)
    with report.catch(input="a.png") as record:
        record["share"] = 1
        raise InputError("a.png: is empty")
    with pytest.raises(typer.Exit), report.catch():
        raise typer.Exit(1)
    out, err = capsys.readouterr()
    assert err == "error: a.png: is empty\n"
    assert out == '{"input": "a.png", "share": 1, "error": "a.png: is empty"}\n'
    assert report.close("done") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupts_exit_with_130(kind, capsys):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as stop, interruptible():
        signal.raise_signal(kind)
    assert stop.value.exit_code == 130
    assert capsys.readouterr().err.startswith("interrupted; ")
    assert signal.getsignal(signal.SIGTERM) == handler
