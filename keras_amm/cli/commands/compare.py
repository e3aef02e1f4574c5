"""`keras-amm compare`: the margins of several models on the same images."""

import argparse
import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

from keras_amm import plots
from keras_amm.cli import attacks, loading, measuring, options
from keras_amm.cli import models as saved_models
from keras_amm.cli.errors import CommandError, require
from keras_amm.cli.output import Results
from keras_amm.cli.paired_tests import PairedTests, paired_tests
from keras_amm.report import MarginReport
from keras_amm.report_summary import round_radii_of

_DRAWINGS: dict[str, Callable[..., Any]] = {"margins": plots.margin_histogram, "robust-accuracy": plots.robust_accuracy}

HELP = "put models side by side on the same images, and test each against the first"
_EXPLANATION = """\
Margins count 0 where an image is misclassified or its attack failed. They are tested by the Wilcoxon signed-rank test
on the differences per image, errors by the exact McNemar test; both are two-sided, and p-values are not adjusted for
several models. The tests say what to expect of these models on
other images like these, not of models that are trained again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description, parser.epilog = HELP, _EXPLANATION
    parser.add_argument(
        "models",
        metavar="MODEL.keras",
        nargs="+",
        help="two classifiers or more; the first is what others are tested against",
    )
    for add in (options.add_dataset, options.add_pixels, attacks.add_attack, options.add_radii, options.add_common):
        add(parser)


def run(args: argparse.Namespace) -> None:
    """Measure the models, test each against the first, print the tests, and write reports and figures."""
    if len(args.models) < 2:
        raise CommandError("compare needs two models or more; keras-amm margins measures one.")
    require("matplotlib", "scipy")
    first, *others = names = saved_models.names(args.models)
    results = Results(args.out, [*map(_report_file, names), "comparison.json", *map(_drawing_file, _DRAWINGS)])
    measured = measuring.measure(loading.read_request(args, args.models))
    tests = {name: paired_tests(measured.reports[first], measured.reports[name]) for name in others}
    print(f"The same {measured.images}")
    # Of the first, so that all are compared at the same radii.
    radii = round_radii_of(measured.reports[first]) if args.radii is None else args.radii
    print(table(measured.reports, radii))
    for name, test in tests.items():
        print(sentences(first, name, test))
    print(_EXPLANATION)
    results.write(_writers(measured, first, tests, radii))
    measuring.raise_early_end(measured)


def table(reports: dict[str, MarginReport], radii: list[float]) -> str:
    """The reports of models, by name, side by side, with the accuracy that is left at each radius.

    Example:
    >>> report = keras_amm.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.2],
    ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
    >>> print(keras_amm.cli.commands.compare.table({"mlp": report}, [0.5, 1.0]))
           accuracy  at radius 0.5  at radius 1  mean margin    median  attack success
      mlp    50.00%         50.00%       50.00%       0.7500    0.7500         100.00%
    """
    width = max(map(len, reports))
    at = [f"at radius {radius:g}" for radius in radii]
    lines = ["  ".join([f"  {'':{width}}", "accuracy", *at, "mean margin", "  median", "attack success"])]
    for name, report in reports.items():
        shares = zip(at, report.robust_accuracy(radii), strict=True)
        cells = [
            f"  {name:{width}}",
            f"{report.accuracy:>8.2%}",
            *(f"{share:>{len(title)}.2%}" for title, share in shares),
            f"{report.margin:>11.4f}",
            f"{report.margin_median:>8.4f}",
            f"{report.success_rate:>14.2%}",
        ]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def sentences(first: str, second: str, test: PairedTests) -> str:
    """What the paired tests say of two models, in words.

    Example:
    >>> test = keras_amm.cli.paired_tests.PairedTests(0.9, 0.5, 1e-9, 12, 3, 0.035)
    >>> print(keras_amm.cli.commands.compare.sentences("plain", "amm", test))
    amm against plain
      margins  larger on 90.0% of the images, median difference +0.5000; Wilcoxon signed-rank p = 1e-09
      errors   12 images only plain misclassifies, 3 only amm; exact McNemar p = 0.035
    """
    return (
        f"{second} against {first}\n"
        f"  margins  larger on {test.larger:.1%} of the images, median difference {test.median_difference:+.4f}; "
        f"Wilcoxon signed-rank {_p(test.wilcoxon_p)}\n"
        f"  errors   {test.first_wrong} images only {first} misclassifies, {test.second_wrong} only {second}; "
        f"exact McNemar {_p(test.mcnemar_p)}"
    )


def _p(value: float) -> str:
    # Smaller p-values are zero in double precision, and a p-value is never zero.
    return "p < 1e-300" if value < 1e-300 else f"p = {value:.2g}"


def _report_file(model: str) -> str:
    return f"{model}-margins.json"


def _drawing_file(drawing: str) -> str:
    return f"comparison-{drawing}.png"


def _writers(
    measured: measuring.Measurement, first: str, tests: dict[str, PairedTests], radii: list[float]
) -> dict[str, Callable[[pathlib.Path], Any]]:
    """For the name of each file, the function that writes it."""
    content = {
        "format": "keras_amm.comparison",
        "version": 1,
        "images": measured.images,
        "first": first,
        "radii": radii,
        "models": {name: _figures_of_merit(report, radii) for name, report in measured.reports.items()},
        "tests": {name: {key: _json(value) for key, value in test._asdict().items()} for name, test in tests.items()},
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"

    def draw(name: str, path: pathlib.Path) -> None:
        _DRAWINGS[name](measured.reports).savefig(path, dpi=150)

    return {
        **{_report_file(name): report.to_json for name, report in measured.reports.items()},
        "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
        **{_drawing_file(name): functools.partial(draw, name) for name in _DRAWINGS},
    }


def _figures_of_merit(report: MarginReport, radii: list[float]) -> dict[str, Any]:
    """The numbers of a report by the names of its properties: `mean` and `median` are the paper's, of all images."""
    names = ("accuracy", "margin", "margin_median", "signed_mean", "mean", "median", "success_rate", "seconds")
    return {
        **{name: _json(getattr(report, name)) for name in names},
        "robust_accuracy": report.robust_accuracy(radii).tolist(),
    }


def _json(value: Any) -> Any:
    """The value, with null in place of NaN and infinity, which JSON does not have."""
    return value if not isinstance(value, float) or math.isfinite(value) else None
