"""`keras-amm attack`: the nearest decision boundary of one image."""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm import plots
from keras_amm.attack import Attack
from keras_amm.cli import attacks, models, options
from keras_amm.cli.errors import CommandError, raising_command_error, require
from keras_amm.cli.image_files import read_image
from keras_amm.cli.output import Results
from keras_amm.cli.pixels import file_format, pixels_for, require_within_bounds
from keras_amm.deepfool import DeepFool
from keras_amm.network.pixel_units import from_pixel_units, to_pixel_units
from keras_amm.network.zero_gradients import have_no_gradient, warning_of_zero_gradients

HELP = "show the nearest decision boundary of one image"
# An attack's last step goes beyond the boundary. The figures show where the boundary is, so the distance is refined.
_REFINE_STEPS = 10


class Found(NamedTuple):
    """What an attack found for one image.

    Attributes:
        image: [height, width, channels] or [height, width], in the units of the distance.
        delta: the perturbation, of the image's shape and in its units.
        norm: the norm of the perturbation, as the attack measures it.
        iterations: how many steps it took.
        success: whether the class changed.
        before: the class of the image.
        after: the class of the perturbed image.
        probabilities: those of the image and of the perturbed image, [2, C].
    """

    image: np.ndarray
    delta: np.ndarray
    norm: float
    iterations: int
    success: bool
    before: int
    after: int
    probabilities: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL.keras", help="the classifier, saved by Keras")
    parser.add_argument("image", metavar="IMAGE", help="a PNG, JPEG, GIF or BMP file; resized to the model's input")
    options.add_pixels(parser)
    options.add_class_names(parser, "names of all classes, in the order of the model's outputs, to print and draw")
    attacks.add_attack(parser, refine_steps=_REFINE_STEPS)
    options.add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Attack the image, print what was found, and draw it."""
    require("matplotlib")
    stem = f"{models.names([args.model])[0]}-{pathlib.Path(args.image).stem}"
    files = {kind: f"{stem}-{kind}.png" for kind in ("perturbation", "boundary")}
    results = Results(args.out, files.values())
    models.import_modules(args.imports)
    model = models.load(args.model)
    size, colours = file_format(model, args.image_size)
    pixels = pixels_for(model, True, args.scale, args.mean, args.deviation)
    # Before pixels are divided by its deviation, which it checks.
    attack = attacks.attack(args, model, pixels)
    attacks.require_divided(attack, args.deviation, are_integers=True)
    image = read_image(args.image, size, colours)[None]
    require_within_bounds(image, args.bounds)
    x = pixels(image, model)
    names = args.class_names
    with raising_command_error("The image or the model are not fit for the attack:", ValueError):
        # A subclassed model does not say how many classes it has, but its output shows it.
        classifier = attack.classifier(model)
        num_classes = int(classifier(classifier.inputs(x)).shape[1])
        if names and len(names) != num_classes:
            raise CommandError(f"--class_names must name all {num_classes} classes. Received: {len(names)} names.")
        found = find(model, x, attack)
    print(f"{args.image}, {size[0]} x {size[1]} {colours}; {pixels}")
    print(describe(found, attack, names))
    results.write({files[kind]: write for kind, write in _figures(model, attack, found, names).items()})


def find(model: keras.Model, x: np.ndarray, attack: Attack) -> Found:
    """Attack one image x, float [1, ...]."""
    result, classifier = attack.perturb(model, x), attack.classifier(model)
    x, delta = (np.asarray(to_pixel_units(part, attack.deviation)) for part in (x, result.delta))
    probabilities = keras.ops.convert_to_numpy(tf.nn.softmax(classifier(np.concatenate([x, x + delta]))))
    before, after = (int(k) for k in np.argmax(probabilities, axis=1))
    return Found(
        x[0],
        delta[0],
        float(result.norm[0]),
        int(result.iterations[0]),
        bool(result.success[0]),
        before,
        after,
        probabilities,
    )


def describe(found: Found, attack: Attack, class_names: list[str] | None) -> str:
    """What was found, in a few lines; without `class_names`, classes are numbers."""
    names = [plots.style.class_name(k, class_names) for k in (found.before, found.after)]
    probable = [found.probabilities[0, found.before], found.probabilities[1, found.after]]
    is_refined = found.success and attack.refine_steps > 0
    refined = f"bisected {attack.refine_steps} times" if is_refined else "not bisected"
    units = "the pixels as the model takes them" if attack.deviation is None else "the pixels before their division"
    lines = [
        f"  class before    {names[0]}  (probability {probable[0]:.4f})",
        f"  class after     {names[1]}  (probability {probable[1]:.4f})",
        f"  distance        {found.norm:.4f}  ({attack.norm}, in the units of {units}; {refined})",
        f"  largest change  {np.max(np.abs(found.delta)):.4f}  of a pixel",
        f"  steps           {found.iterations}{_limit(attack)}",
    ]
    if have_no_gradient(found.norm, np.bool_(found.success)):
        lines.append(f"  No boundary was reached. {_why_stuck(attack)}")
    elif not found.success:
        lines.append("  No boundary was reached: the distance is how far the attack went. Try --max_iterations=50.")
    return "\n".join(lines)


def _why_stuck(attack: Attack) -> str:
    return warning_of_zero_gradients("this image", type(attack).__name__, attack.from_logits)


def _limit(attack: Attack) -> str:
    """How many steps an attack may take, where it stops by itself before."""
    return f" of at most {attack.max_iterations}" if isinstance(attack, DeepFool) else f", by {type(attack).__name__}"


def _figures(
    model: keras.Model, attack: Attack, found: Found, names: list[str] | None
) -> dict[str, Callable[[pathlib.Path], Any]]:
    """For each kind of figure that such an image has, the function that draws and writes it."""
    image, delta = found.image, found.delta
    figures: dict[str, Any] = {}
    if image.ndim == 2 or image.shape[-1] in (1, 3):
        figures["perturbation"] = lambda: plots.perturbation_grid(
            image[None], delta[None], [found.before], [found.after], class_names=names, norm=attack.norm
        )
    if found.norm > 0.0:
        of_model = [np.asarray(from_pixel_units(part, attack.deviation)) for part in (image, delta)]
        figures["boundary"] = lambda: plots.boundary_cross_section(model, *of_model, class_names=names, attack=attack)
    return {kind: functools.partial(_save, draw) for kind, draw in figures.items()}


def _save(draw: Callable[[], Any], path: pathlib.Path) -> None:
    draw().savefig(path, dpi=150)
