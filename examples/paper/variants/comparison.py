"""Variants beside each other: each is trained once and leaves a JSON file, and a table shows them all."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..json_files import write_json
from ..training import run_folder
from .protocol import Training, Variant

# Trains and measures a variant: `protocol.train`, which knows how to build its network.
Train = Callable[[Any, Training], dict[str, Any]]


class OtherVariantError(ValueError):
    """A file is of a variant that has been changed since."""


def choose(variants: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Variants by their names.

    Args:
        variants: the variants by name.
        names: strings, each a variant's name, or the part before the dot, which stands for all that begin with it.

    Returns:
        The variants of these names, in their own order.

    Raises:
        ValueError: there is no such variant, or none is named.

    Example:
    >>> choose({"avg.ours": 1, "avg.rate": 2, "min.ours": 3}, ["avg"])
    {'avg.ours': 1, 'avg.rate': 2}
    """
    if not names:
        raise ValueError(f"Expected of {', '.join(variants)}. Received none.")
    if unknown := set(names) - set(variants) - {name.partition(".")[0] for name in variants}:
        raise ValueError(f"Expected of {', '.join(variants)}. Received: {', '.join(sorted(unknown))}.")
    return {name: variant for name, variant in variants.items() if {name, name.partition(".")[0]} & set(names)}


def compare(
    variants: Mapping[str, Variant], train: Train, seeds: int, epochs: int, out: pathlib.Path, test: bool = False
) -> None:
    """Train what is missing, one JSON file each, and print the table of all.

    The learning rate drops in proportion to the paper's epochs. Variants are found on the 5,000 images held out; `test`
    shows what one that was found makes of the paper's numbers.

    Args:
        variants: the variants by name.
        train: `Train`.
        seeds: int, trainings of each variant, with seeds from 0.
        epochs: int, of each training.
        out: path of the folder of the files.
        test: bool, whether to train on all images and measure on the test images.

    Raises:
        OtherVariantError: a file there is of another variant.
        InUseError: another process trains one of them.
        NotPreparedError: the data set is not there.
    """
    suffix = f"{'test.' if test else ''}epochs-{epochs}.seed"
    paths = {name: [out / f"{name}.{suffix}-{seed}.json" for seed in range(seeds)] for name in variants}
    # Before anything is trained, which may take hours.
    for name, variant in variants.items():
        for path in filter(pathlib.Path.exists, paths[name]):
            _refuse_other_variant(path, variant)
    print(f"| what differs | {'test' if test else 'held-out'} error | margin |\n| --- | --- | --- |")
    for name, variant in variants.items():
        results = [_once(path, variant, seed, epochs, test, train) for seed, path in enumerate(paths[name])]
        error, margin = (
            ", ".join(f"{result[key]:.2f}{unit}" for result in results)
            for key, unit in (("error_percent", "%"), ("margin_mean", ""))
        )
        print(f"| {variant.title} | {error} | {margin} |", flush=True)


def _once(path: pathlib.Path, variant: Variant, seed: int, epochs: int, test: bool, train: Train) -> dict[str, Any]:
    """The result in a file, which is made if it is not there; until then what is done is in a folder beside it."""
    folder = path.with_suffix("")
    if not path.exists():
        with run_folder.alone(folder):
            if (begun := folder / "variant.json").exists():
                _refuse_other_variant(begun, variant)
            write_json(begun, {"form": dataclasses.asdict(variant)})
            write_json(path, train(variant, Training(seed, epochs, test, folder / "latest.weights.h5")))
    if folder.exists():
        shutil.rmtree(folder)
    return json.loads(path.read_text())


def _refuse_other_variant(path: pathlib.Path, variant: Variant) -> None:
    # An attribute that the file lacks is younger than the file, which then has its default.
    defaults = _jsonable(type(variant)(""))
    made, wanted = {**defaults, **json.loads(path.read_text())["form"]}, _jsonable(variant)
    names = sorted((made.keys() | wanted.keys()) - {"title"})
    if differing := [name for name in names if made.get(name) != wanted.get(name)]:
        changes = ", ".join(f"{name}={made.get(name)!r}, not {wanted.get(name)!r}" for name in differing)
        stale = path.parent if path.name == "variant.json" else path
        raise OtherVariantError(f"{path} is of another variant: {changes}. Remove {stale}, and it is made again.")


def _jsonable(variant: Variant) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(variant)))
