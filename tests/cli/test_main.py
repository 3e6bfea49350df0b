"""The root command: its help, its names, old names, wrong usage, errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from derain._version import __version__
from derain.cli.main import ALIASES, COMMANDS, load_command

SUBCOMMANDS = [
    *((name,) for name in COMMANDS),
    *(("models", name) for name in ("import", "pack", "average")),
    *(("data", name) for name in ("check", "list", "import")),
    *(("rain2avoid", name) for name in ("run", "ldgp", "nss", "learn", "train", "infer")),
]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_all_commands_and_no_old_name(command, flag):
    code, out, err = command(flag)
    assert (code, err) == (0, "")
    listed = {line.split()[1] for line in out.splitlines() if line.startswith("│ ") and len(line.split()) > 1}
    assert set(COMMANDS) <= listed
    assert not set(ALIASES) & listed


def test_help_imports_no_command_and_nothing_heavy():
    code = (
        "import sys; sys.argv = ['derain', '--help']\n"
        "from derain.cli.main import COMMANDS, main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'numpy', 'PIL', *(module for module, _ in COMMANDS.values())}\n"
        "print('imported:', sorted(heavy & set(sys.modules)))"
    )
    assert run_python(code).splitlines()[-1] == "imported: []"


def test_commands_do_not_import_torch_before_they_run():
    code = (
        "import sys\n"
        "from derain.cli.main import COMMANDS, load_command\n"
        "print([name for name in COMMANDS if load_command(name) and 'torch' in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_help_is_quick():
    """In processor time, relative to typer alone: a busy machine slows both."""
    import resource

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(seconds("-m", "derain", "--help"), seconds("-c", "import typer.rich_utils")) for _ in range(3)]
    assert min(ours for ours, _ in pairs) < 2 * min(bare for _, bare in pairs)


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_every_command_has_help(command, words):
    code, out, err = command(*words, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: derain {' '.join(words)}" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_tables_line_is_the_first_of_the_commands_help(name):
    text = " ".join(load_command(name).help.split())
    assert text.startswith(COMMANDS[name][1])


@pytest.mark.parametrize("old", ALIASES)
def test_old_names_print_a_hint_and_work(command, old):
    code, out, err = command(old, "--help")
    assert code == 0
    assert err.strip() == f"note: `derain {old}` is now `derain {ALIASES[old]}`"
    assert out == command(*ALIASES[old].split(), "--help")[1]
    code, out, err = command(old, "--no-such-option")
    assert code == 2
    assert err.startswith("note: ")


def test_the_version(command):
    assert command("--version")[:2] == (0, f"derain {__version__}\n")


def test_unknown_commands_are_wrong_usage(command):
    code, _, err = command("swim")
    assert code == 2
    assert "swim" in err
    assert "'train'" in command("trian")[2]
    assert command("data")[0] == 2  # no subcommand
