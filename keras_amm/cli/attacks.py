"""The options of attacks, and the attacks that they stand for."""

import argparse
import inspect
from typing import Any

import keras
import numpy as np

from keras_amm.attack import SHARED, Attack, changed
from keras_amm.cli import values
from keras_amm.cli.errors import CommandError, raising_command_error
from keras_amm.cli.pixels import Pixels
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
    for name, kind, metavar, text in (
        ("max_iterations", values.positive, "N", "steps of DeepFool before it gives an image up"),
        ("num_candidates", values.positive, "N", "classes that DeepFool considers in each step"),
        ("overshoot", float, "FRACTION", "fraction by which its steps go beyond the linear boundary"),
    ):
        default = _STEPS[name]
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
    group.add_argument(
        "--steps",
        type=values.positive,
        metavar="N",
        help="of fmn only: its gradients per image (default: 30, and 50 of a second attack)",
    )
    group.add_argument(
        "--bounds",
        type=values.numbers,
        metavar="MIN,MAX",
        help="the smallest and the largest value of a pixel as it is in the data, 0,255 for 8-bit images: perturbed "
        "images stay within them (default: no bounds)",
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
        "its gradients. It takes over --norm, --bounds, --deviation and --from_logits, and --steps where it is fmn, "
        "but not --max_iterations, --num_candidates, --overshoot and --refine_steps. deepfool takes up to 50 steps "
        "here; fmn starts from the images, not from DeepFool's points, so that it may also be second to fmn",
    )


def attack(args: argparse.Namespace, model: keras.Model, pixels: Pixels) -> Attack:
    """The attack that a command line asks for; an `AMMModel` knows what `default_attack` knows."""
    _require_fmn(args)
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


def require_divided(attack: Attack, deviation: tuple[float, ...] | None, *, are_integers: bool) -> None:
    """Refuse whole-numbered pixels, which nothing has divided yet, if the model was wrapped with a deviation."""
    if are_integers and deviation is None and attack.deviation is not None:
        known = ",".join(f"{value:g}" for value in np.ravel(attack.deviation))
        raise CommandError(
            "The model was wrapped with a deviation by which its images are divided, and these images are 8-bit ones, "
            f"which are not. Add --deviation={known}, and --mean if a mean was subtracted."
        )


def second_attack(args: argparse.Namespace, first: Attack) -> Attack | None:
    """The attack to compare the first one with, in its units, norm and bounds; None if none is asked for."""
    if args.second_attack is None:
        return None
    second = SECOND_ATTACKS[args.second_attack]
    settings = {name: getattr(first, name) for name in SHARED}
    if args.second_attack == "fmn" and args.steps is not None:
        settings["steps"] = args.steps
    return changed(second, **settings)


def require_another_attack(args: argparse.Namespace) -> None:
    """Refuse a second attack that is the first one; fmn is another one, since it starts elsewhere."""
    if args.second_attack == args.attack != "fmn":
        others = " or ".join(name for name in SECOND_ATTACKS if name != args.attack)
        raise CommandError(
            f"--second_attack must be another attack than --attack, such as {others}: one that is compared with itself "
            f"agrees. Received: --attack={args.attack} --second_attack={args.second_attack}."
        )


def _require_fmn(args: argparse.Namespace) -> None:
    """Refuse `--steps` where no attack is fmn."""
    given = {name: getattr(args, name) for name in ("attack", "second_attack") if hasattr(args, name)}
    if args.steps is not None and "fmn" not in given.values():
        received = " ".join(f"--{name}={value}" for name, value in given.items() if value is not None)
        raise CommandError(
            f"--steps is for {' or '.join(f'--{name}=fmn' for name in given)}. "
            f"Received: --steps={args.steps} {received}."
        )


def _bounds_of_model(bounds: tuple[float, ...], pixels: Pixels) -> Any:
    """The range of pixels, as a model takes them."""
    if len(bounds) != 2:
        raise CommandError(f"--bounds must be two numbers, such as 0,255. Received: {len(bounds)} numbers.")
    if not bounds[0] < bounds[1]:
        raise CommandError(
            "--bounds must be the smallest and the largest value of a pixel, in this order, such as 0,255. "
            f"Received: --bounds={bounds[0]:g},{bounds[1]:g}."
        )
    deviation = 1.0 if pixels.deviation is None else pixels.deviation
    # A deviation of 0 is refused later.
    with np.errstate(divide="ignore", invalid="ignore"):
        return [np.divide(pixels.scale * bound - np.array(pixels.mean), deviation) for bound in bounds]
