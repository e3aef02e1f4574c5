"""What a command line asks to be measured, loaded and checked."""

import argparse
from typing import NamedTuple

import keras

from keras_amm.cli import models, options
from keras_amm.cli.errors import CommandError
from keras_amm.cli.images import Images, open_images
from keras_amm.cli.pixels import Pixels, pixels_for
from keras_amm.deepfool import DeepFool


class Request(NamedTuple):
    """Models to measure on the same images.

    Attributes:
        models: the classifiers by name.
        images: the images, read once.
        pixels: what is done to the images before the models see them.
        attacks: the attack of each model, by name.
        batch_size: int, the most images attacked at a time.
    """

    models: dict[str, keras.Model]
    images: Images
    pixels: Pixels
    attacks: dict[str, DeepFool]
    batch_size: int


def read_request(args: argparse.Namespace, paths: list[str]) -> Request:
    """Load the models and open the images.

    Args:
        args: what was parsed.
        paths: the models' files.

    Returns:
        The `Request`.

    Raises:
        CommandError: a model, the images or the settings are not fit.
    """
    models.import_modules(args.imports)
    loaded = dict(zip(models.names(paths), map(models.load, paths), strict=True))
    images = open_images(options.dataset(args), next(iter(loaded.values())))
    pixels = _pixels(args, loaded, images.are_integers)
    attacks = {name: options.attack(args, model) for name, model in loaded.items()}
    return Request(loaded, images, pixels, attacks, args.batch_size)


def _pixels(args: argparse.Namespace, loaded: dict[str, keras.Model], are_integers: bool) -> Pixels:
    each = {name: pixels_for(model, are_integers, args.scale, args.mean) for name, model in loaded.items()}
    if len(set(each.values())) > 1:
        raise CommandError(
            "Margins of models that take pixels on different scales cannot be compared: "
            + ", ".join(f"{name} {pixels}" for name, pixels in each.items())
            + ". --scale gives the same to all."
        )
    return next(iter(each.values()))
