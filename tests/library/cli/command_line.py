"""What the tests of the command line share: running a command, and looking at what came of it."""

import keras_amm
from keras_amm import cli

MARGINS_OF = ("margins", "one.keras")


def command(*arguments, folder):
    parts = [str(folder / a) if str(a).endswith((".keras", ".png")) else str(a) for a in arguments]
    return cli.main(cli.parse(["keras-amm", *parts]))


def saved(path):
    return keras_amm.MarginReport.from_json(path)


def assert_one_line(capsys, message):
    """The command has printed an error of one line, and nothing else."""
    printed = capsys.readouterr()
    assert printed.err.startswith("keras-amm: ") and printed.err.count("\n") == 1, printed.err
    assert message in printed.err and not printed.out
