"""Trains the networks that `benchmarks.mma_protocol` measures: LeNet and MLP-800 on MNIST, plainly or with AMM.

    python -m benchmarks.mma_networks --network=lenet-mnist --out=runs/lenet-amm
    python -m benchmarks.mma_networks --network=lenet-mnist --noamm --out=runs/lenet-plain
    python -m benchmarks.mma_networks --max_influence=1 --top_fraction=0.5 --validation --out=runs/lenet-trial
    python -m benchmarks.mma_networks --network=mlp-800 --search=exact --top_fraction=0.35 --validation --out=runs/mlp
    python -m benchmarks.mma_networks --initial=runs/lenet-amm/model.keras --top_fraction=0.5 --out=runs/lenet-longer

needs MNIST prepared by tensorflow-datasets (TFDS_DATA_DIR says where). Leaves `model.keras` and `result.json` in the
folder `--out`. With `--validation`, 5,000 training images are held out, and the result has their error and the margins
of the first 500 of them, by `FastMinimumNorm(100)` within the range of the pixels: that is how to choose among
settings, before any test image is looked at.

The optimizer is SGD with momentum, whose learning rate falls along a cosine; its
gradient's norm is clipped to 10, as the paper's. Images are not augmented.
"""

import pathlib
import time
from typing import Any

import keras
import numpy as np
from absl import app, flags

import keras_amm
from examples.paper import architectures
from examples.paper.data import arrays
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions

from .networks import MNIST

_NETWORK = flags.DEFINE_enum("network", "lenet-mnist", MNIST, "The network.")
_AMM = flags.DEFINE_bool("amm", True, "Whether to train for margin.")
_INFLUENCE = flags.DEFINE_float("max_influence", 4.0, "As in MarginRegularizer.", lower_bound=0.0)
_FRACTION = flags.DEFINE_float("top_fraction", 0.25, "As in MarginRegularizer.", lower_bound=0.0, upper_bound=1.0)
_SEARCH = flags.DEFINE_enum("search", "cheap", ["exact", "ranks", "cheap", "rough"], "As in MarginRegularizer.")
_C = flags.DEFINE_float("c", 3.0, "As in MarginRegularizer.", lower_bound=0.0)
_INITIAL = flags.DEFINE_string("initial", None, "A saved network to go on with; new weights by default.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 0.02, "The first learning rate.", lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of initial weights and order.")
_VALIDATION = flags.DEFINE_bool("validation", False, "Hold out 5,000 training images, and measure them.")
_OUT = flags.DEFINE_string("out", "runs/mma", "Folder of the model and the result.")

_BATCH_SIZE = 100
_NUM_HELD_OUT = 5_000
_NUM_ATTACKED = 500


def main(argv: list[str]) -> None:
    del argv
    made_with = versions()
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(_SEED.value)
    images = arrays.load("mnist", f"train[:-{_NUM_HELD_OUT}]" if _VALIDATION.value else "train")
    network = architectures.build(_NETWORK.value)
    if _INITIAL.value:
        network.set_weights(keras.models.load_model(_INITIAL.value, compile=False).get_weights())
    settings = {
        "max_influence": _INFLUENCE.value,
        "top_fraction": _FRACTION.value,
        "c": _C.value,
        "search": _SEARCH.value,
    }
    model = keras_amm.wrap(network, keras_amm.MarginRegularizer(**settings)) if _AMM.value else network
    steps = _EPOCHS.value * -(-len(images) // _BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(_RATE.value, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.perf_counter(), time.process_time()
    history = model.fit(images.x, images.y, batch_size=_BATCH_SIZE, epochs=_EPOCHS.value, verbose=2).history
    took = {"seconds": time.perf_counter() - start[0], "processor_seconds": time.process_time() - start[1]}
    network.save(out / "model.keras")
    flags_given = (_NETWORK, _AMM, _INFLUENCE, _FRACTION, _SEARCH, _C, _INITIAL, _EPOCHS, _RATE, _SEED, _VALIDATION)
    result = {
        "settings": {flag.name: flag.value for flag in flags_given},
        "versions": made_with,
        **took,
        "history": history,
    }
    if _VALIDATION.value:
        result["held_out"] = measured(network, arrays.load("mnist", f"train[-{_NUM_HELD_OUT}:]"))
        print(result["held_out"])
    write_json(out / "result.json", result)


def measured(network: keras.Model, images: arrays.Images) -> dict[str, Any]:
    """The error of all images, and the margins of the first 500, 0 where wrong."""
    bounds = (-arrays.MNIST_MEAN, 1.0 - arrays.MNIST_MEAN)
    attack = keras_amm.FastMinimumNorm(100, bounds=bounds, start=keras_amm.DeepFool(), from_logits=True)
    predictions = network.predict(images.x, batch_size=500, verbose=0).argmax(axis=1)
    report = keras_amm.evaluate_margins(network, tuple(images[:_NUM_ATTACKED]), attack, batch_size=250, verbose=0)
    return {
        "error_percent": 100.0 * float(np.mean(predictions != images.y)),
        "mean_margin": report.margin,
        "median_margin": report.margin_median,
        "success": report.success_rate,
    }


if __name__ == "__main__":
    app.run(main)
