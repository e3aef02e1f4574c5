"""What is lost by the two shortcuts of the search: skipping far classes, and screening out samples.

    python -m benchmarks.shortcuts --model=runs/mnist/model.keras --data_set=mnist
    python -m benchmarks.shortcuts --model=runs/cifar10/model.keras --data_set=cifar10 --images=2000

measures the margins of a trained network's test images twice: as the library does, which in later steps skips
classes that were far in the first, and with every candidate class in every step. Where the two norms differ, a
class was skipped that would have been nearest. Then it counts, in batches of training images, the samples that MIN
selects with and without screening. `--json` leaves a record. The data set must be prepared by tensorflow-datasets
(TFDS_DATA_DIR says where).
"""

import pathlib
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm
from benchmarks import evaluated_images
from examples.paper.data import arrays, data_sets
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions
from keras_amm.margins import evaluate_margins
from keras_amm.network.classifier import Classifier
from keras_amm.report import MarginReport
from keras_amm.search import linearisation

_MODEL = flags.DEFINE_string("model", None, "A model that was saved by an example.", required=True)
_DATA_SET = flags.DEFINE_enum("data_set", "mnist", list(data_sets.DATA_SETS), "Whose images.")
_IMAGES = flags.DEFINE_integer("images", 10_000, "How many of them.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 6, "Limit of steps.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "Images that MIN selects among.", lower_bound=1)
_SCREENING = flags.DEFINE_float("screening", 0.3, "How many correct samples are searched, as a fraction of the batch.")
_JSON = flags.DEFINE_string("json", None, "Where to save the numbers.")

# Norms that differ by a smaller fraction are equal but for rounding.
TOLERANCE = 1e-4


def load(split: str) -> arrays.Images:
    return evaluated_images.load(_DATA_SET.value, f"{split}[:{_IMAGES.value}]")


def measure(images: arrays.Images, reach: float) -> tuple[MarginReport, float]:
    """The report, and the seconds of a second run, which compiles nothing."""
    linearisation.REACH = reach
    # Loaded again, since the functions compiled with the former REACH are kept with the model.
    model = keras.models.load_model(_MODEL.value, compile=False)
    attack = keras_amm.DeepFool(_STEPS.value)
    evaluate_margins(model, (images.x[:500], images.y[:500]), attack, batch_size=500, verbose=0)
    start = time.perf_counter()
    report = evaluate_margins(model, (images.x, images.y), attack, batch_size=500, verbose=0)
    return report, time.perf_counter() - start


def skip_classes(images: arrays.Images) -> dict[str, float]:
    reach = linearisation.REACH
    few, seconds = measure(images, reach)
    every, longer = measure(images, float("inf"))
    linearisation.REACH = reach
    ratio = few.norms / every.norms
    differ = np.abs(ratio - 1.0) > TOLERANCE
    print(
        f"{len(few)} test images, error {100 * (1 - few.accuracy):.2f}%: {differ.sum()} norms differ by over "
        f"{TOLERANCE:g} (their ratios: {np.sort(ratio[differ])[:10]}), means {few.mean:.5f} and {every.mean:.5f}; "
        f"every class in every step takes {longer / seconds:.2f} times as long"
    )
    return {
        "test_images": len(few),
        "error_percent": 100.0 * (1.0 - few.accuracy),
        "norms_that_differ": int(differ.sum()),
        "times_as_long": longer / seconds,
    }


def screen(images: arrays.Images) -> dict[str, int]:
    classifier = Classifier(keras.models.load_model(_MODEL.value, compile=False))
    attack, regularizer = keras_amm.DeepFool(_STEPS.value), keras_amm.MarginRegularizer.from_paper("min-exp")

    @tf.function
    def selected(x, y):
        clean = linearisation.clean_pass(classifier, x)
        paths = [
            attack.path(classifier, clean, y, screening=screening, keep_path=False)
            for screening in (None, _SCREENING.value)
        ]
        return [regularizer.select(path.norm, y, path.correct, path.success) for path in paths]

    counts = np.zeros(3, int)
    size = _BATCH_SIZE.value
    for first in range(0, len(images) - size + 1, size):
        x, y = images[first : first + size]
        full, screened = (mask.numpy() for mask in selected(tf.constant(x), tf.constant(y)))
        counts += [full.sum(), (full & ~screened).sum(), (screened & ~full).sum()]
    print(
        f"{len(images)} training images in batches of {size}: MIN selects {counts[0]} samples; with "
        f"screening={_SCREENING.value:g}, {counts[1]} of these are missed and {counts[2]} others selected"
    )
    names = ("training_images", "selected", "missed_with_screening", "others_with_screening")
    return dict(zip(names, map(int, (len(images), *counts)), strict=True))


def main(argv: list[str]) -> None:
    del argv
    made_with = versions()
    record = {**skip_classes(load("test")), **screen(load("train"))}
    if _JSON.value:
        settings = {flag.name: flag.value for flag in (_DATA_SET, _IMAGES, _STEPS, _BATCH_SIZE, _SCREENING)}
        write_json(pathlib.Path(_JSON.value), {"settings": settings, "versions": made_with, **record})


if __name__ == "__main__":
    app.run(main)
