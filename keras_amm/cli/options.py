"""The options that several commands share, and what they stand for."""

import argparse
from collections.abc import Sequence

from keras_amm.cli import values
from keras_amm.cli.images import ImageOptions


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
        type=values.positive,
        metavar="N",
        help="measure N images only, the same ones every time: random ones of a file or folder, the first ones of "
        "TensorFlow Datasets, which are shuffled already",
    )
    group.add_argument(
        "--download", action="store_true", help="let TensorFlow Datasets download a data set that is not yet prepared"
    )
    group.add_argument("--batch_size", type=values.positive, default=128, metavar="N", help="images attacked at a time")


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a model expects of pixels."""
    group = parser.add_argument_group(
        "pixels as the model has been trained on them: (scale * pixels - mean) / deviation"
    )
    group.add_argument(
        "--scale",
        type=values.number,
        help="number or fraction that pixels are multiplied by; by default 1/255 for integers, unless the model has a "
        "Rescaling or Normalization layer before its first weights, and 1 for all else",
    )
    group.add_argument(
        "--mean",
        type=values.numbers,
        default=(0.0,),
        help="number, or one per channel as R,G,B, that is subtracted after scaling; 0.1307 for the models of "
        "examples/mnist.py (default: 0)",
    )
    group.add_argument(
        "--deviation",
        type=values.numbers,
        help="number, or one per channel as R,G,B, that is divided by after the mean is subtracted; margins are then "
        "in the units of the pixels before that division (default: no division, and of an AMMModel's margins the "
        "units that it was trained with)",
    )
    group.add_argument(
        "--image_size",
        type=values.size,
        metavar="HEIGHT,WIDTH[,CHANNELS]",
        help="size to which image files and images of TensorFlow Datasets are resized, by default the model's; a "
        "subclassed model does not say how many channels it takes: name them (1, 3 or 4) after the size (default: 3)",
    )


def add_class_names(parser: argparse._ActionsContainer, text: str) -> None:
    """Add `--class_names`; `text` says what the names are for, which depends on the command."""
    parser.add_argument("--class_names", type=values.strings, metavar="A,B,...", help=text)


def add_radii(parser: argparse.ArgumentParser) -> None:
    """Add `--radii`."""
    parser.add_argument(
        "--radii",
        type=values.radius,
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


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
