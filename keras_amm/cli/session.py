"""What commands do before and after measuring: load, open, measure, write."""

import argparse
import pathlib
from typing import NamedTuple

import keras

from keras_amm.cli import datasets, measuring, models, options
from keras_amm.cli.pixels import Pixels, pixels_for
from keras_amm.cli.refusal import Refusal, refusing, require
from keras_amm.report import MarginReport


class Session(NamedTuple):
    """The margins of some models on the same images.

    Attributes:
        reports: dictionary from the models' names to `MarginReport`.
        ended_by: the exception that ended it early; None for none.
        images: string, what the images are, and what was done to their pixels.
        out: the folder for results.
    """

    reports: dict[str, MarginReport]
    ended_by: BaseException | None
    images: str
    out: pathlib.Path


def folder(args: argparse.Namespace) -> pathlib.Path:
    """The folder for results, made before anything is measured.

    Args:
        args: what was parsed.

    Returns:
        Its path.

    Raises:
        Refusal: it cannot be made.

    Example:
    >>> import tempfile
    >>> folder(argparse.Namespace(out=tempfile.mkdtemp())).is_dir()
    True
    """
    out = pathlib.Path(args.out)
    with refusing("There is no folder for the results:", OSError):
        out.mkdir(parents=True, exist_ok=True)
    return out


def measure(args: argparse.Namespace, paths: list[str]) -> Session:
    """Load the models and measure them on the images asked for.

    Args:
        args: what was parsed.
        paths: the models' files.

    Returns:
        The `Session`, also of a measurement that ended early.

    Raises:
        Refusal: a model, the images or the folder for results are not fit.
    """
    require("matplotlib", "scipy")
    out = folder(args)
    models.import_modules(args.imports)
    loaded = dict(zip(models.names(paths), map(models.load, paths), strict=True))
    images = datasets.read(options.dataset(args), next(iter(loaded.values())))
    pixels = _pixels(args, loaded, images.are_integers)
    attacks = {name: options.attack(args, model) for name, model in loaded.items()}
    measured = measuring.measure(loaded, images, pixels, attacks, args.batch_size)
    number = len(next(iter(measured.reports.values())))
    whole = f" of {images.number:,}" if images.number and number < images.number else ""
    return Session(
        measured.reports, measured.ended_by, f"{number:,}{whole} images of {images.description}; {pixels}", out
    )


def finish(session: Session, written: list[pathlib.Path]) -> None:
    """Say what was written, and raise what ended the measurement early.

    Args:
        session: what was measured.
        written: the files.

    Raises:
        BaseException: what ended the measurement, if anything did.
    """
    print(f"Wrote {', '.join(map(str, written))}")
    if session.ended_by is not None:
        print("The measurement ended early: this is of the images that were measured.")
        raise session.ended_by


def _pixels(args: argparse.Namespace, loaded: dict[str, keras.Model], are_integers: bool) -> Pixels:
    each = {name: pixels_for(model, are_integers, args.scale, args.mean) for name, model in loaded.items()}
    if len(set(each.values())) > 1:
        raise Refusal(
            "Margins of models that take pixels on different scales cannot be compared: "
            + ", ".join(f"{name} {pixels}" for name, pixels in each.items())
            + ". --scale gives the same to all."
        )
    return next(iter(each.values()))
