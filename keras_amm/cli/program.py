"""The program `keras-amm`: its commands, and what becomes of errors."""

import argparse
import logging
import sys
from collections.abc import Sequence

import keras_amm
from keras_amm.cli import options
from keras_amm.cli.commands import attack, compare, margins
from keras_amm.cli.errors import CommandError

_COMMANDS = {"margins": margins, "compare": compare, "attack": attack}
_STOPPED = 130


def run() -> None:
    """Run the program with the arguments of this process, and exit."""
    sys.exit(main(parse(sys.argv)))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
        argv: strings, the program's name first. Options may be spelled with
            hyphens or underscores: `--batch-size` is `--batch_size`.

    Returns:
        The namespace that `main` takes.

    Raises:
        SystemExit: the command line is wrong, or asked for help.

    Example:
    >>> keras_amm.cli.parse(["keras-amm", "margins", "model.keras", "--dataset=mnist"]).dataset
    'mnist'
    """
    parser = argparse.ArgumentParser(
        prog="keras-amm",
        description="Input-space margins of saved Keras classifiers. COMMAND --help lists its options.",
    )
    parser.add_argument("--version", action="version", version=f"keras-amm {keras_amm.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        part = commands.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(part)
        part.set_defaults(command=command.run)
    return parser.parse_args(options.with_underscores(argv[1:]))


def main(args: argparse.Namespace) -> int:
    """Run a command.

    Args:
        args: what `parse` returned.

    Returns:
        The exit status: 0; 1 where a model, data or the folder for results cannot be used; or 130 after Ctrl-C.

    Example:
    >>> keras_amm.cli.main(keras_amm.cli.parse(["keras-amm", "attack", "missing.keras", "image.png"]))
    1
    """
    # TensorFlow warns of each new shape it compiles for, and its data sets report each of their steps.
    logging.getLogger("tensorflow").setLevel(logging.INFO if args.debug else logging.ERROR)
    logging.getLogger("absl").setLevel(logging.INFO if args.debug else logging.WARNING)
    try:
        args.command(args)
    except CommandError as error:
        if args.debug:
            raise
        print(f"keras-amm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-amm: stopped.", file=sys.stderr)
        return _STOPPED
    return 0
