"""Loads and checks what a command line asks to be measured."""

import argparse
from typing import NamedTuple

import keras

from keras_amm.attack import Attack, changed
from keras_amm.cli import attacks, models, options
from keras_amm.cli.errors import CommandError
from keras_amm.cli.images import Images, open_images
from keras_amm.cli.pixels import Pixels, pixels_for


class Request(NamedTuple):
    """Models by name, to be measured on the same images, each with its attack, `batch_size` images at a time.

    The bounds are those of pixels as they are in the data, None for none; the attacks have them in the models' units.
    """

    models: dict[str, keras.Model]
    images: Images
    pixels: Pixels
    attacks: dict[str, Attack]
    batch_size: int
    bounds: tuple[float, ...] | None = None


def read_request(args: argparse.Namespace, paths: list[str]) -> Request:
    """Load the models from the files `paths`, and open the images that they are to be measured on."""
    models.import_modules(args.imports)
    loaded = dict(zip(models.names(paths), map(models.load, paths), strict=True))
    images = open_images(options.dataset(args), next(iter(loaded.values())))
    pixels = _pixels(args, loaded, images.are_integers)
    of_models = _in_one_unit({name: attacks.attack(args, model, pixels) for name, model in loaded.items()})
    attacks.require_divided(next(iter(of_models.values())), args.deviation, are_integers=images.are_integers)
    return Request(loaded, images, pixels, of_models, args.batch_size, args.bounds)


def _in_one_unit(given: dict[str, Attack]) -> dict[str, Attack]:
    """Attacks, with the deviation that one of them knows: the same images are for all models."""
    known = [attack.deviation for attack in given.values() if attack.deviation is not None]
    if any(deviation != known[0] for deviation in known):
        raise CommandError(
            "Margins of models whose images were divided by different deviations cannot be compared: "
            + ", ".join(f"{name} {attack.deviation}" for name, attack in given.items())
            + ". Measure them one by one."
        )
    norms = {attack.norm for attack in given.values()}
    if len(norms) > 1:
        raise CommandError(
            "Margins in different norms cannot be compared: "
            + ", ".join(f"{name} {attack.norm}" for name, attack in given.items())
            + ". --norm gives the same to all."
        )
    deviation = known[0] if known else None
    return {name: changed(attack, deviation=deviation) for name, attack in given.items()}


def _pixels(args: argparse.Namespace, loaded: dict[str, keras.Model], are_integers: bool) -> Pixels:
    """The preprocessing that all the models share."""
    each = {
        name: pixels_for(model, are_integers, args.scale, args.mean, args.deviation) for name, model in loaded.items()
    }
    if len(set(each.values())) > 1:
        raise CommandError(
            "Margins of models that take pixels on different scales cannot be compared: "
            + ", ".join(f"{name} {pixels}" for name, pixels in each.items())
            + ". --scale gives the same to all."
        )
    return next(iter(each.values()))
