"""`keras-amm margins`: the margins of one model."""

import argparse

from keras_amm.cli import options, session

HELP = "measure the margins of a model on labelled images: print the report, write JSON and a figure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("model", metavar="MODEL.keras", help="the classifier, saved by Keras")
    for add in (options.add_dataset, options.add_pixels, options.add_attack, options.add_common):
        add(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, print and write.

    Args:
        args: what was parsed.

    Raises:
        Refusal: the model or the images are not fit.
    """
    measured = session.measure(args, [args.model])
    ((name, report),) = measured.reports.items()
    print(report.summary())
    print(f"  images          {measured.images}")
    files = [measured.out / f"{name}-margins.{suffix}" for suffix in ("json", "png")]
    report.to_json(files[0])
    report.plot().savefig(files[1], dpi=150)
    session.finish(measured, files)
