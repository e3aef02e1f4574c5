"""`keras-amm margins`: the margins of one model."""

import argparse

from keras_amm.cli import loading, measuring, models, options
from keras_amm.cli.errors import require
from keras_amm.cli.output import Results

HELP = "measure the margins of a model on labelled images: print the report, write JSON and a figure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL.keras", help="the classifier, saved by Keras")
    for add in (options.add_dataset, options.add_pixels, options.add_attack, options.add_radii, options.add_common):
        add(parser)
    options.add_second_attack(parser)


def run(args: argparse.Namespace) -> None:
    """Measure the model, print its report, and write the report and a figure."""
    require("matplotlib")
    (name,) = models.names([args.model])
    files = [f"{name}-margins.json", f"{name}-margins.png"]
    results = Results(args.out, files)
    request = loading.read_request(args, [args.model])
    measured = measuring.measure(request)
    report = measured.reports[name]
    print(report.summary(args.radii))
    print(f"  images          {measured.images}")
    if args.second_attack is not None and measured.ended_by is None:
        second = options.second_attack(args.second_attack, request.attacks[name])
        again = measuring.measure(request._replace(attacks={name: second}))
        if again.ended_by is None:
            print(f"  {args.attack} and {args.second_attack}: {report.compare(again.reports[name])}")
    writers = (report.to_json, lambda path: report.plot().savefig(path, dpi=150))
    results.write(dict(zip(files, writers, strict=True)))
    measuring.raise_early_end(measured)
