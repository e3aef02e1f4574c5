"""The program as a whole: its entry point, wrong command lines, and `--debug`."""

import configparser
import pathlib
import subprocess
import sys

import pytest

from keras_amm import cli
from keras_amm.cli.errors import CommandError, first_line
from tests.library.cli.command_line import command, saved


def test_debug_shows_the_traceback(folder):
    with pytest.raises(CommandError, match="There is no model"):
        command("margins", "missing.keras", "--dataset=images.npz", "--debug", folder=folder)


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        (["--max-iterations=9"], "max_iterations", 9),
        (["--max-iterations", "9"], "max_iterations", 9),
        (["--max_iterations=9"], "max_iterations", 9),
        (["--max-iter=9"], "max_iterations", 9),
        ([], "max_iterations", 6),
        (["--from-logits"], "from_logits", True),
        (["--no-from-logits"], "from_logits", False),
        (["--no-from_logits"], "from_logits", False),
        ([], "from_logits", None),
        (["--out=my-results--1"], "out", "my-results--1"),
        ([], "out", "."),
        (["--scale=1/4"], "scale", 0.25),
        (["--mean=0.1,-0.2,0.3"], "mean", (0.1, -0.2, 0.3)),
        (["--class-names=a-b, c"], "class_names", ["a-b", "c"]),
    ],
)
def test_options_in_either_spelling(typed, name, value):
    args = cli.parse(["keras-amm", "margins", "my-model.keras", "--dataset=my-images", *typed])
    assert getattr(args, name) == value
    assert (args.model, args.dataset) == ("my-model.keras", "my-images")


def test_what_follows_two_hyphens_is_no_option():
    args = cli.parse(["keras-amm", "attack", "--", "--m-1.keras", "--i-1.png"])
    assert (args.model, args.image) == ("--m-1.keras", "--i-1.png")


def test_errors_are_one_line_each():
    assert str(CommandError("No such\nfile.")) == "No such file."
    assert first_line(ValueError("No such name.\nThere are: ...")) == "No such name."
    assert first_line(ValueError()) == ""


def test_wrong_command_lines(capsys):
    flags = "--scale=1/0 --scale=1e400 --scale=1e39 --mean=a --image_size=3 --image_size=8,8,2 --overshoot=x".split()
    wrong = [["attack", "m", "i", flag] for flag in flags]
    for arguments in (
        [],
        ["margins", "one.keras"],
        ["margins", "m", "--dataset=d", "--num_images=0"],
        ["--helpfull"],
        *wrong,
    ):
        with pytest.raises(SystemExit) as end:
            cli.parse(["keras-amm", *arguments])
        assert end.value.code == 2 and "usage: keras-amm" in capsys.readouterr().err


def test_the_installed_program(folder, tmp_path):
    """In a process of its own, by the entry point that packaging declares."""
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).parents[3] / "setup.cfg")
    name, target = (part.strip() for part in setup["options.entry_points"]["console_scripts"].strip().split("="))
    assert name == "keras-amm"
    module, function = target.split(":")
    program = f"import sys; from {module} import {function}; sys.argv[0] = 'keras-amm'; {function}()"
    arguments = ["margins", "one.keras", "--dataset=images.npz", "--split=train", f"--out={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True)
    # x and y are taken, whatever the split: floating-point pixels, five of them.
    assert done.returncode == 0 and "on 5 images" in done.stdout, done.stderr
    assert len(saved(tmp_path / "one-margins.json")) == 5
