"""`keras-amm attack`: the nearest decision boundary of one image."""

import argparse
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm import plots
from keras_amm.classifier import Classifier
from keras_amm.cli import models, options, session
from keras_amm.cli.pixels import file_format, pixels_for
from keras_amm.cli.refusal import Refusal, refusing, require
from keras_amm.deepfool import DeepFool

HELP = "show the nearest decision boundary of one image"


class Found(NamedTuple):
    """What DeepFool found for one image.

    Attributes:
        image: array [height, width, channels], as the model takes it.
        delta: its perturbation.
        norm: float, the perturbation's l2 norm.
        iterations: int, the steps taken.
        success: bool, whether the class changed.
        before: int, the class of the image.
        after: int, the class of the perturbed image.
        probabilities: array [2, C], of the image and the perturbed image.
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
    """Add the command's arguments.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("model", metavar="MODEL.keras", help="the classifier, saved by Keras")
    parser.add_argument("image", metavar="IMAGE", help="a PNG, JPEG, GIF or BMP file; resized to the model's input")
    for add in (options.add_pixels, options.add_attack, options.add_common):
        add(parser)


def run(args: argparse.Namespace) -> None:
    """Attack, print and draw.

    Args:
        args: what was parsed.

    Raises:
        Refusal: the model or the image are not fit.
    """
    require("matplotlib")
    out = session.folder(args)
    models.import_modules(args.imports)
    model = models.load(args.model)
    size, colours = file_format(model, args.image_size)
    pixels = pixels_for(model, True, args.scale, args.mean)
    x = pixels(read_image(args.image, size, colours)[None], model)
    attack = options.attack(args, model)
    names = args.class_names
    if names and models.num_classes(model) not in (None, len(names)):
        raise Refusal(f"--class_names must name all {models.num_classes(model)} classes. Received: {len(names)} names.")
    with refusing("The image or the model are not fit for the attack:", ValueError):
        found = find(model, x, attack)
    print(f"{args.image}, {size[0]} x {size[1]} {colours}; {pixels}")
    print(describe(found, attack.max_iterations, names))
    stem = f"{models.names([args.model])[0]}-{pathlib.Path(args.image).stem}"
    print(f"Wrote {', '.join(map(str, _draw(model, found, names, out, stem)))}")


def read_image(path: str, size: tuple[int, int], colours: str) -> np.ndarray:
    """An image file, read as `keras.utils.image_dataset_from_directory` does.

    Args:
        path: the file.
        size: (height, width) to resize it to.
        colours: "grayscale", "rgb" or "rgba".

    Returns:
        Float32 array [height, width, channels] of pixels 0..255.

    Raises:
        Refusal: there is no such file, or it is no image.

    Example:
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/black.png"
    >>> keras.utils.save_img(path, np.zeros((4, 4, 3)))
    >>> keras_amm.cli.attack.read_image(path, (2, 2), "grayscale").shape
    (2, 2, 1)
    """
    channels = {"grayscale": 1, "rgb": 3, "rgba": 4}[colours]
    with refusing(f"{path} cannot be read:", OSError):
        content = pathlib.Path(path).read_bytes()
    with refusing(f"{path} is not an image:", tf.errors.InvalidArgumentError):
        image = tf.io.decode_image(content, channels=channels, expand_animations=False)
    resized: np.ndarray = tf.image.resize(image, size).numpy()
    return resized


def find(model: keras.Model, x: np.ndarray, attack: DeepFool) -> Found:
    """Attack one image.

    Args:
        model: the classifier.
        x: float array [1, ...].
        attack: the `DeepFool`.

    Returns:
        What was `Found`.

    Raises:
        ValueError: model and image do not fit.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> found = keras_amm.cli.attack.find(model, np.ones((1, 2), "float32"), keras_amm.DeepFool())
    >>> found.success, found.before != found.after
    (True, True)
    """
    result = attack.perturb(model, x)
    delta = result.delta.numpy()
    classifier = Classifier(model, attack.from_logits)
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


def describe(found: Found, max_iterations: int, class_names: list[str] | None) -> str:
    """What was found, in a few lines.

    Args:
        found: what was found.
        max_iterations: int, the limit of the attack.
        class_names: list of strings, by class; None for indices.

    Returns:
        A string of several lines.
    """
    names = [plots.style.class_name(k, class_names) for k in (found.before, found.after)]
    probable = [found.probabilities[0, found.before], found.probabilities[1, found.after]]
    lines = [
        f"  class before    {names[0]}  (probability {probable[0]:.4f})",
        f"  class after     {names[1]}  (probability {probable[1]:.4f})",
        f"  distance        {found.norm:.4f}  (l2, in the units of the pixels as the model takes them)",
        f"  largest change  {np.max(np.abs(found.delta)):.4f}  of a pixel",
        f"  steps           {found.iterations} of at most {max_iterations}",
    ]
    if not found.success:
        lines.append("  No boundary was reached: the distance is how far DeepFool went. Try --max_iterations=50.")
    return "\n".join(lines)


def _draw(
    model: keras.Model, found: Found, names: list[str] | None, out: pathlib.Path, stem: str
) -> list[pathlib.Path]:
    figures: dict[str, Any] = {}
    if found.image.shape[-1] in (1, 3):
        figures["perturbation"] = plots.perturbation_grid(
            found.image[None], found.delta[None], [found.before], [found.after], class_names=names
        )
    if found.norm > 0.0:
        figures["boundary"] = plots.boundary_cross_section(model, found.image, found.delta, class_names=names)
    files = []
    for kind, figure in figures.items():
        files.append(out / f"{stem}-{kind}.png")
        figure.savefig(files[-1], dpi=150)
    return files
