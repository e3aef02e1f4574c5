"""How nearly DeepFool's perturbations stand at right angles to the boundary: the cosine of perturbation and normal.

    python -m benchmarks.boundary_cosine --models=one/model.keras,other/model.keras --json=results/boundary_cosine.json
    python -m benchmarks.boundary_cosine --data_set=cifar10 --models=runs/resnet-20/model.keras --num_images=200

needs the data set prepared by tensorflow-datasets (TFDS_DATA_DIR says where). Of each saved model, the first test
images are perturbed by `DeepFool()`, as in training with the defaults. At the nearest point of a boundary the cosine
is 1. The boundary gradient counts no cosine as less than `keras_amm.gradient.boundary.FLOOR`: the last column is the
share of the images that this concerns.
"""

import json
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm
from benchmarks import evaluated_images
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions
from keras_amm.gradient import boundary
from keras_amm.search.linearisation import clean_pass


def main(argv: list[str]) -> None:
    del argv
    made_with = versions()
    images = evaluated_images.load(flags.FLAGS.data_set, f"test[:{flags.FLAGS.num_images}]")
    found = {}
    print("| network | images | median cosine | quartiles | below the floor |\n| --- | --- | --- | --- | --- |")
    for path in map(pathlib.Path, flags.FLAGS.models):
        name = path.parent.name
        parts = range(0, len(images), flags.FLAGS.batch_size)
        model = keras.models.load_model(path, compile=False)
        found[name] = row = summary(
            np.concatenate([cosines(model, images.x[first : first + flags.FLAGS.batch_size]) for first in parts])
        )
        low, high = row["quartiles"]
        print(
            f"| {name} | {row['images']} | {row['median']:.3f} | {low:.3f} .. {high:.3f} | {row['below_floor']:.1%} |"
        )
    if flags.FLAGS.json:
        path = pathlib.Path(flags.FLAGS.json)
        known = json.loads(path.read_text()) if path.exists() else {}
        rows = {name: {"data_set": flags.FLAGS.data_set, "versions": made_with, **row} for name, row in found.items()}
        write_json(path, {**known, **rows})


def cosines(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Of the images [B, ...] whose prediction DeepFool changes, the cosines of perturbation and normal."""
    attack = keras_amm.DeepFool()
    classifier = attack.classifier(model)
    path = attack.path(classifier, clean_pass(classifier, classifier.inputs(x)), None)
    index = tf.where(path.success)[:, 0]
    # No weights: of the gradient, only the cosines are asked for.
    _, found = boundary.differentiate(classifier, path, index, tf.zeros(tf.shape(index)), [])
    return found.numpy()


def summary(cosines: np.ndarray) -> dict[str, Any]:
    """Numbers that JSON can hold."""
    low, middle, high = map(float, np.percentile(cosines, [25, 50, 75]))
    return {
        "images": len(cosines),
        "median": middle,
        "quartiles": [low, high],
        "below_floor": float(np.mean(cosines < boundary.FLOOR)),
    }


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_list("models", [], "Saved models, each a file.keras.")
    flags.DEFINE_enum("data_set", "mnist", ["mnist", "cifar10"], "The data set of the models.")
    flags.DEFINE_integer("num_images", 1000, "The first so many test images.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "Images perturbed at a time.", lower_bound=1)
    flags.DEFINE_string("json", None, "A file of records, to which those of these models are added.")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
