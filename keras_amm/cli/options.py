"""The options that several commands share, and what they stand for."""

import argparse
import inspect
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from keras_amm.attack import Attack
from keras_amm.cli.errors import CommandError, raising_command_error
from keras_amm.cli.images import ImageOptions
from keras_amm.cli.pixels import COLOUR_MODES, Pixels
from keras_amm.deepfool import DeepFool
from keras_amm.fast_minimum_norm import FastMinimumNorm
from keras_amm.measuring.measurer import default_attack
from keras_amm.search.norms import NORMS
from keras_amm.super_deepfool import SuperDeepFool

ATTACKS: dict[str, type[Attack]] = {"deepfool": DeepFool, "fmn": FastMinimumNorm, "superdeepfool": SuperDeepFool}
# By other attacks than the one compared with.
SECOND_ATTACKS: dict[str, Attack] = {
    "deepfool": DeepFool(50),
    "fmn": FastMinimumNorm(50, start=None),
    "superdeepfool": SuperDeepFool(),
}
# The settings of DeepFool's steps, which are steps of the other two as well: FMN starts from DeepFool's points.
_STEPS = {
    name: inspect.signature(DeepFool).parameters[name].default
    for name in ("max_iterations", "num_candidates", "overshoot")
}


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Arguments in which options like `--max-iterations=9` are spelled with underscores; all else stays as it is.

    Example:
    >>> keras_amm.cli.options.with_underscores(["my-model.keras", "--batch-size=4", "--out=my-results"])
    ['my-model.keras', '--batch_size=4', '--out=my-results']
    """
    # After "--" there are no options.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*map(_with_underscores, arguments[:end]), *arguments[end:]]


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which images to measure."""
    group = parser.add_argument_group("images")
    group.add_argument(
        "--dataset",
        required=True,
        help="a name of TensorFlow Datasets, such as mnist; or an .npz file with x_SPLIT and y_SPLIT, SPLIT_images and "
        "SPLIT_labels, or x and y; or a folder with one folder of images per class, or with such folders per split. "
        "The labels of folders number their names in sorted order, as in keras.utils.image_dataset_from_directory",
    )
    group.add_argument(
        "--split",
        help="the split of the data set, such as test[:1000] of TensorFlow Datasets; of a folder, the name of a folder "
        "in it (default: test; all images of a folder that has no splits)",
    )
    add_class_names(
        group,
        "of a folder of images only: its folders in the order of the model's outputs, if that is not the sorted one; "
        "folders that are not named are left out",
    )
    group.add_argument(
        "--num_images",
        type=_positive,
        metavar="N",
        help="measure N images only, the same ones every time: random ones of a file or folder, the first ones of "
        "TensorFlow Datasets, which are shuffled already",
    )
    group.add_argument(
        "--download", action="store_true", help="let TensorFlow Datasets download a data set that is not yet prepared"
    )
    group.add_argument("--batch_size", type=_positive, default=128, metavar="N", help="images attacked at a time")


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a model expects of pixels."""
    group = parser.add_argument_group(
        "pixels as the model has been trained on them: (scale * pixels - mean) / deviation"
    )
    group.add_argument(
        "--scale",
        type=_number,
        help="number or fraction that pixels are multiplied by; by default 1/255 for integers, unless the model has a "
        "Rescaling or Normalization layer before its first weights, and 1 for all else",
    )
    group.add_argument(
        "--mean",
        type=_numbers,
        default=(0.0,),
        help="number, or one per channel as R,G,B, that is subtracted after scaling; 0.1307 for the models of "
        "examples/mnist.py (default: 0)",
    )
    group.add_argument(
        "--deviation",
        type=_numbers,
        help="number, or one per channel as R,G,B, that is divided by after the mean is subtracted; margins are then "
        "in the units of the pixels before that division (default: no division, and of an AMMModel's margins the "
        "units that it was trained with)",
    )
    group.add_argument(
        "--image_size",
        type=_size,
        metavar="HEIGHT,WIDTH[,CHANNELS]",
        help="size to which image files and images of TensorFlow Datasets are resized, by default the model's; a "
        "subclassed model does not say how many channels it takes: name them (1, 3 or 4) after the size (default: 3)",
    )


def add_class_names(parser: argparse._ActionsContainer, text: str) -> None:
    """Add `--class_names`; `text` says what the names are for, which depends on the command."""
    parser.add_argument("--class_names", type=_strings, metavar="A,B,...", help=text)


def add_attack(parser: argparse.ArgumentParser, *, refine_steps: int | None = None) -> None:
    """Add the attack and its settings; `refine_steps` is the command's default, None for that of each attack."""
    group = parser.add_argument_group("attack")
    group.add_argument(
        "--attack",
        choices=[*ATTACKS],
        default="deepfool",
        help="what searches for the boundary: deepfool as in training; fmn (Fast Minimum-Norm), which goes on from "
        "where DeepFool ends and finds nearer points; or superdeepfool (default: deepfool)",
    )
    bisections = "0; of superdeepfool 10" if refine_steps is None else refine_steps
    for name, kind, metavar, default, text in (
        ("max_iterations", _positive, "N", _STEPS["max_iterations"], "steps of DeepFool before it gives an image up"),
        ("num_candidates", _positive, "N", _STEPS["num_candidates"], "classes that DeepFool considers in each step"),
        (
            "overshoot",
            float,
            "FRACTION",
            _STEPS["overshoot"],
            "fraction by which its steps go beyond the linear boundary",
        ),
    ):
        group.add_argument(
            f"--{name}", type=kind, default=default, metavar=metavar, help=f"{text} (default: {default})"
        )
    group.add_argument(
        "--refine_steps",
        type=int,
        default=refine_steps,
        metavar="N",
        help=f"bisection steps along the perturbation, back to the boundary (default: {bisections})",
    )
    group.add_argument("--steps", type=_positive, metavar="N", help="of fmn: its gradients per image (default: 30)")
    group.add_argument(
        "--bounds",
        type=_numbers,
        metavar="MIN,MAX",
        help="the smallest and the largest value of a pixel as it is in the data, such as 0,255: perturbed images stay "
        "within them (default: no bounds)",
    )
    group.add_argument(
        "--norm",
        choices=[*NORMS],
        help="the norm of distances: l2, or linf, the largest change of a pixel (default: l2, and of an AMMModel the "
        "norm that it was trained with)",
    )
    for option, value, text in (
        ("--from_logits", True, "the model's output is logits (default: found out)"),
        ("--no_from_logits", False, "the model's output is probabilities"),
    ):
        group.add_argument(option, dest="from_logits", action="store_const", const=value, default=None, help=text)


def add_second_attack(parser: argparse.ArgumentParser) -> None:
    """Add `--second_attack`."""
    parser.add_argument(
        "--second_attack",
        choices=[*SECOND_ATTACKS],
        help="measure by another attack as well, and say whether the two agree: if they do not, the network may mask "
        "its gradients. fmn starts from the images here, not from DeepFool's points",
    )


def add_radii(parser: argparse.ArgumentParser) -> None:
    """Add `--radii`."""
    parser.add_argument(
        "--radii",
        type=_radius,
        nargs="+",
        metavar="RADIUS",
        help="radii, in the norm of the distances and the units of the pixels as the model takes them, at which to "
        "show the robust accuracy (default: round ones about the median margin)",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every command has."""
    parser.add_argument("--out", default=".", metavar="FOLDER", help="where results are written (default: here)")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a Python module to import first, which registers custom layers; may be repeated",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def dataset(args: argparse.Namespace) -> ImageOptions:
    """The images that a command line asks for."""
    return ImageOptions(**{name: getattr(args, name) for name in ImageOptions._fields})


def attack(args: argparse.Namespace, model: keras.Model, pixels: Pixels) -> Attack:
    """The attack that a command line asks for; an `AMMModel` knows what `default_attack` knows."""
    if args.steps is not None and args.attack != "fmn":
        raise CommandError(f"--steps is for --attack=fmn. Received: --steps={args.steps} --attack={args.attack}.")
    of_steps = {name: getattr(args, name) for name in _STEPS}
    own = default_attack(model)
    settings: dict[str, Any] = {
        "from_logits": own.from_logits if args.from_logits is None else args.from_logits,
        "deviation": own.deviation if args.deviation is None else args.deviation,
        "norm": own.norm if args.norm is None else args.norm,
        "bounds": None if args.bounds is None else _bounds_of_model(args.bounds, pixels),
    }
    if args.refine_steps is not None:
        settings["refine_steps"] = args.refine_steps
    with raising_command_error("The attack cannot have these settings:", ValueError):
        if args.attack != "fmn":
            return ATTACKS[args.attack](**of_steps, **settings)
        if args.steps is not None:
            settings["steps"] = args.steps
        return FastMinimumNorm(start=DeepFool(**of_steps), **settings)


def second_attack(name: str, first: Attack) -> Attack:
    """The attack to compare another one with, in its units, norm and bounds."""
    attack = SECOND_ATTACKS[name]
    shared = {each: getattr(first, each) for each in ("from_logits", "deviation", "bounds", "norm")}
    return type(attack).from_config({**attack.get_config(), **shared})


def _bounds_of_model(bounds: tuple[float, ...], pixels: Pixels) -> Any:
    """The range of pixels, as a model takes them."""
    if len(bounds) != 2:
        raise CommandError(f"--bounds must be two numbers, such as 0,255. Received: {len(bounds)} numbers.")
    deviation = 1.0 if pixels.deviation is None else pixels.deviation
    # A deviation of 0 is refused later.
    with np.errstate(divide="ignore", invalid="ignore"):
        return [np.divide(pixels.scale * bound - np.array(pixels.mean), deviation) for bound in bounds]


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"expected a number or a fraction such as 1/255, got {text!r}") from error
    if abs(number) > float(np.finfo("float32").max):
        raise argparse.ArgumentTypeError(f"expected a number that float32 can hold, got {text!r}")
    return number


def _radius(text: str) -> float:
    number = _number(text)
    if number < 0.0:
        raise argparse.ArgumentTypeError(f"expected a radius of at least 0, got {text!r}")
    return number


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _size(text: str) -> tuple[int, ...]:
    size = tuple(_positive(part) for part in text.split(","))
    if len(size) not in (2, 3) or (len(size) == 3 and size[2] not in COLOUR_MODES):
        raise argparse.ArgumentTypeError(f"expected HEIGHT,WIDTH or HEIGHT,WIDTH,CHANNELS (1, 3 or 4), got {text!r}")
    return size


def _strings(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
