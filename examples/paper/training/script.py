"""The command line of the scripts that train on one data set."""

import functools
import pathlib

from absl import app, flags

from ..data.sources import NotPreparedError
from .run_folder import InUseError, OtherRunError
from .settings import define_flags, given_flags, resolve
from .table_2 import TABLE_2
from .trainer import SettingsError, train_in_steps


def run(data_set: str) -> None:
    """Train on a data set as the command line says.

    Args:
        data_set: str, one of `data_sets.DATA_SETS`.
    """
    define_flags(list(TABLE_2[data_set]), out=f"runs/{data_set}")
    app.run(functools.partial(_main, data_set))


def _main(data_set: str, argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    try:
        settings = resolve(data_set, given_flags())
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    try:
        train_in_steps(settings, pathlib.Path(flags.FLAGS.out), flags.FLAGS.resume)
    except (NotPreparedError, SettingsError, InUseError) as error:
        raise SystemExit(str(error)) from error
    except OtherRunError as error:
        raise SystemExit(f"{error} Choose another --out, or start over with --noresume.") from error
