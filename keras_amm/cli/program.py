"""The program `keras-amm`: its commands, and what becomes of errors."""

import argparse
import sys
from collections.abc import Sequence

import tensorflow as tf
from absl import app, logging
from absl.flags import argparse_flags

import keras_amm
from keras_amm.cli.commands import attack, compare, margins
from keras_amm.cli.errors import CommandError

_COMMANDS = {"margins": margins, "compare": compare, "attack": attack}
_STOPPED = 130


def run() -> None:
    """Run the program with the arguments of this process, and exit."""
    app.run(main, flags_parser=parse)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
        argv: strings, the program's name first.

    Returns:
        The namespace that `main` takes.

    Raises:
        SystemExit: the command line is wrong, or asked for help.

    Example:
    >>> keras_amm.cli.parse(["keras-amm", "margins", "model.keras", "--dataset=mnist"]).dataset
    'mnist'
    """
    parser: argparse.ArgumentParser = argparse_flags.ArgumentParser(  # type: ignore[no-untyped-call]
        prog="keras-amm",
        description="Input-space margins of saved Keras classifiers. COMMAND --help lists its options.",
    )
    parser.add_argument("--version", action="version", version=f"keras-amm {keras_amm.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        # absl's own flags stay with the program: a command's options may have the same names.
        part = commands.add_parser(name, help=command.HELP, description=command.HELP, inherited_absl_flags=None)
        command.add_arguments(part)
        part.set_defaults(command=command.run)
    return parser.parse_args(argv[1:])


def main(args: argparse.Namespace) -> int:
    """Run a command.

    Args:
        args: what `parse` returned.

    Returns:
        The exit status: 0, 1 where something given is not fit, or 130 after Ctrl-C.

    Example:
    >>> keras_amm.cli.main(keras_amm.cli.parse(["keras-amm", "attack", "missing.keras", "image.png"]))
    1
    """
    # Libraries tell much that is no result: absl's INFO is on by default, and TensorFlow warns of each new shape.
    logging.set_verbosity(logging.INFO if args.debug else logging.WARNING)
    tf.get_logger().setLevel("INFO" if args.debug else "ERROR")
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
