"""`keras-amm margins`: the margins of one model."""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from keras_amm.cli import attacks, loading, measuring, models, options
from keras_amm.cli.errors import require
from keras_amm.cli.output import Results
from keras_amm.report_comparison import AttackComparison

HELP = "measure the margins of a model on labelled images: print the report, write JSON and a figure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL.keras", help="the classifier, saved by Keras")
    for add in (options.add_dataset, options.add_pixels, attacks.add_attack, options.add_radii, options.add_common):
        add(parser)
    attacks.add_second_attack(parser)


def run(args: argparse.Namespace) -> None:
    """Measure the model, print its report, and write the report and a figure."""
    require("matplotlib")
    attacks.require_another_attack(args)
    (name,) = models.names([args.model])
    files = [f"{name}-margins.json", f"{name}-margins.png"]
    results = Results(args.out, files)
    request = loading.read_request(args, [args.model])
    second = attacks.second_attack(args, request.attacks[name])
    measured = measuring.measure(request)
    report = measured.reports[name]
    print(report.summary(args.radii))
    print(f"  images          {measured.images}")
    compared: dict[str, Any] = {}
    ended_by = None
    if second is not None and measured.ended_by is None:
        again = measuring.measure(request._replace(attacks={name: second}))
        ended_by = again.ended_by
        if ended_by is None:
            comparison = report.compare(again.reports[name])
            print(f"  {args.attack} and {args.second_attack}: {comparison}")
            compared = {"second_attack": described(comparison, again.reports[name].attack)}

    def write(path: pathlib.Path) -> None:
        if not compared:
            report.to_json(path)
            return
        content = {**json.loads(report.to_json()), **compared}
        path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")

    writers = (write, lambda path: report.plot().savefig(path, dpi=150))
    results.write(dict(zip(files, writers, strict=True)))
    measuring.raise_early_end(measured)
    if ended_by is not None:
        print("The second attack ended early, and is not compared.")
        raise ended_by


def described(comparison: AttackComparison, second_attack: dict[str, Any]) -> dict[str, Any]:
    """What a comparison of two attacks says, of JSON's types; the report that is read from such a file leaves it out.

    Example:
    >>> report = keras_amm.MarginReport(norms=[0.1], signed=[0.1], predictions=[3], labels=[3], success=[1])
    >>> keras_amm.cli.commands.margins.described(report.compare(report), report.attack)["quartiles_of_ratio"]
    [1.0, 1.0, 1.0]
    """
    ratio = comparison.ratio
    return {
        "attack": second_attack,
        "quartiles_of_ratio": np.quantile(ratio, (0.25, 0.5, 0.75)).tolist() if ratio.size else [],
        "success_rates": list(comparison.success_rates),
        "far_apart": comparison.far_apart,
        "too_far": comparison.too_far,
        "disagree": comparison.disagree,
        "findings": comparison.findings,
    }
