"""The command line of the scripts that train variants."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
from absl import app, flags

from ..command_line import show_in_help
from ..data.sources import NotPreparedError
from ..training.run_folder import InUseError
from ..training.table_2 import LEAST_EPOCHS
from .comparison import OtherVariantError, choose, compare
from .protocol import Variant, train


def run(variants: Mapping[str, Variant], build: Callable[[Any], keras.Model], epochs: int, out: str) -> None:
    """Train variants as the command line says.

    Args:
        variants: the variants by name.
        build: function of a variant that returns its network with new weights, wrapped or not.
        epochs: int, the default of `--epochs`.
        out: str, the default of `--out`.
    """
    flags.DEFINE_list("variants", list(variants), "names of variants; the part before a dot names all that begin so")
    flags.DEFINE_integer("seeds", 1, "trainings of each variant, with seeds from 0", lower_bound=1)
    flags.DEFINE_integer("epochs", epochs, "epochs of each training", lower_bound=LEAST_EPOCHS)
    flags.DEFINE_bool("test", False, "train on all images and measure on the test images, as the paper's tables do")
    flags.DEFINE_string("out", out, "folder of the trainings' JSON files")
    show_in_help(__name__)
    app.run(functools.partial(_main, variants, functools.partial(train, build=build)))


def _main(variants: Mapping[str, Variant], train_one: Callable[..., dict[str, Any]], argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    given = flags.FLAGS
    try:
        chosen = choose(variants, given.variants)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    try:
        compare(chosen, train_one, given.seeds, given.epochs, pathlib.Path(given.out), given.test)
    except (NotPreparedError, OtherVariantError, InUseError) as error:
        raise SystemExit(str(error)) from error
