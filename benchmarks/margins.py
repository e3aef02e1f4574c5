"""Margins per second: keras_amm.evaluate_margins beside Foolbox's and ART's DeepFool.

The libraries take turns in one process, on one trained network and the same test images:

    pip install foolbox adversarial-robustness-toolbox absl-py tensorflow-datasets importlib_resources
    python -m benchmarks.margins --network=mlp-800 --network=lenet-mnist

needs MNIST prepared by tensorflow-datasets (TFDS_DATA_DIR says where). All three
attack every image untargeted from the class predicted for it, with the same number of
steps, candidates and overshoot; keras_amm is also measured with fewer candidates. None clips:
Foolbox, which always clips, is given bounds that no image reaches, ART no clip values.
`evaluate_margins` also finds the distances of misclassified images to their labels, and
its time includes that.

The first run of each, which compiles, is shown separately and not counted. Foolbox and ART do
not compile: if a run of theirs takes longer than --patience, this first run counts, and no
further run or batch size is tried. If other programs use the machine, compare processor times
rather than times by the clock. `--json` leaves a record.
"""

import logging
import pathlib
import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm
from examples.paper.data import arrays
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions
from keras_amm.margins import evaluate_margins

from .networks import MNIST, trained

_NETWORK = flags.DEFINE_multi_enum("network", ["mlp-800"], MNIST, "Networks to attack.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of training before the attack.", lower_bound=0)
_IMAGES = flags.DEFINE_integer("images", 1000, "Test images to attack.", lower_bound=1)
_STEPS = flags.DEFINE_multi_integer("steps", [6, 50], "Limits of steps.", lower_bound=1)
_BATCH_SIZES = flags.DEFINE_multi_integer(
    "batch_size", [128, 500], "Batch sizes; each library is compared at its best.", lower_bound=1
)
_CANDIDATES = flags.DEFINE_multi_integer(
    "candidates", [10, 4], "Classes that keras_amm considers; the others consider the first number.", lower_bound=2
)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each library.", lower_bound=1)
_PATIENCE = flags.DEFINE_float("patience", 120.0, "Seconds of a run from which on there is no other.")
_LIBRARIES = flags.DEFINE_multi_enum(
    "library", ["foolbox", "art"], ["foolbox", "art"], "What to compare keras_amm with."
)
_JSON = flags.DEFINE_string("json", None, "Where to save the numbers.")

OVERSHOOT = 0.02

# A run of an attack: returns the norms [n] and whether each prediction changed [n].
Measure = Callable[[], tuple[np.ndarray, np.ndarray]]


class Result(NamedTuple):
    """One library with one batch size."""

    library: str
    candidates: int
    batch_size: int
    first: float
    seconds: list[float]
    cpu_seconds: list[float]
    norms: np.ndarray
    success: np.ndarray

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def numbers(self) -> dict[str, object]:
        """What JSON can hold of it: means in place of the norms and successes of single images."""
        return {
            **{name: value for name, value in self._asdict().items() if name not in ("norms", "success")},
            "mean_norm": float(self.norms[self.success].mean()),
            "success": float(self.success.mean()),
        }


def with_keras_amm(
    model: keras.Model, x: np.ndarray, y: np.ndarray, *, steps: int, candidates: int, batch_size: int
) -> Measure:
    attack = keras_amm.DeepFool(steps, num_candidates=candidates, overshoot=OVERSHOOT)

    def measure() -> tuple[np.ndarray, np.ndarray]:
        report = evaluate_margins(model, (x, y), attack, batch_size=batch_size, verbose=0)
        return report.norms, report.success

    return measure


def with_foolbox(
    model: keras.Model, x: np.ndarray, y: np.ndarray, *, steps: int, candidates: int, batch_size: int
) -> Measure:
    import foolbox

    wide = (-1000.0, 1000.0)
    attacked = foolbox.models.TensorFlowModel(model, bounds=wide, device="/CPU:0")
    attack = foolbox.attacks.L2DeepFoolAttack(steps=steps, candidates=candidates, overshoot=OVERSHOOT)

    def measure() -> tuple[np.ndarray, np.ndarray]:
        found = []
        for start in range(0, len(x), batch_size):
            batch = tf.constant(x[start : start + batch_size])
            predictions = tf.argmax(model(batch, training=False), axis=1)
            found.append(attack.run(attacked, batch, foolbox.criteria.Misclassification(predictions)).numpy())
        return judge(model, x, np.concatenate(found))

    return measure


def with_art(
    model: keras.Model, x: np.ndarray, y: np.ndarray, *, steps: int, candidates: int, batch_size: int
) -> Measure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART warns of optional frameworks that are not installed
        from art.attacks.evasion import DeepFool
        from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(model, nb_classes=model.output_shape[1], input_shape=x.shape[1:])
    attack = DeepFool(
        classifier, max_iter=steps, epsilon=OVERSHOOT, nb_grads=candidates, batch_size=batch_size, verbose=False
    )
    return lambda: judge(model, x, attack.generate(x))


def judge(model: keras.Model, x: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Norms of the perturbations, and whether the prediction changed."""
    before, after = (np.argmax(model(images, training=False), axis=1) for images in (x, found))
    return np.linalg.norm((found - x).reshape(len(x), -1), axis=1), before != after


MEASURES = {"keras_amm": with_keras_amm, "foolbox": with_foolbox, "art": with_art}


def compare(model: keras.Model, x: np.ndarray, y: np.ndarray, steps: int) -> list[Result]:
    """All libraries with all batch sizes, timed in turn."""
    results, runs = [], []
    settings = [("keras_amm", candidates) for candidates in dict.fromkeys(_CANDIDATES.value)]
    for library, candidates in settings + [
        (library, _CANDIDATES.value[0]) for library in dict.fromkeys(_LIBRARIES.value)
    ]:
        for batch_size in dict.fromkeys(_BATCH_SIZES.value):
            measure = MEASURES[library](model, x, y, steps=steps, candidates=candidates, batch_size=batch_size)
            first, cpu_first, (norms, success) = timed(measure)
            result = Result(library, candidates, batch_size, first, [], [], norms, success)
            results.append(result)
            if library != "keras_amm" and first > _PATIENCE.value:
                result.seconds.append(first)
                result.cpu_seconds.append(cpu_first)
                break
            runs.append((result, measure))
    for _ in range(_REPEATS.value):
        for result, measure in runs:
            run_again(result, measure)
    return results


def run_again(result: Result, measure: Measure) -> None:
    seconds, cpu_seconds, _ = timed(measure)
    result.seconds.append(seconds)
    result.cpu_seconds.append(cpu_seconds)


def timed(measure: Measure) -> tuple[float, float, tuple[np.ndarray, np.ndarray]]:
    """Seconds and processor seconds that a measurement takes, and what it finds."""
    start, cpu_start = time.perf_counter(), time.process_time()
    found = measure()
    return time.perf_counter() - start, time.process_time() - cpu_start, found


def show(results: list[Result], images: int) -> None:
    """The table, and each setting of keras_amm against each library, all at their best batch size."""
    print("library    classes  batch  first run   images/s (min .. max)    CPU ms/image  mean norm  success")
    for result in results:
        low, high = images / max(result.seconds), images / min(result.seconds)
        print(
            f"{result.library:<10} {result.candidates:>7} {result.batch_size:>6} {result.first:>8.2f} s "
            f"{images / result.median:>10.0f} ({low:.0f} .. {high:.0f})".ljust(65)
            + f"{1000 * statistics.median(result.cpu_seconds) / images:>10.2f} "
            f"{result.norms[result.success].mean():>10.4f}  {result.success.mean():>7.1%}"
        )
    best: dict[tuple[str, int], Result] = {}
    for result in sorted(results, key=lambda result: result.median):
        best.setdefault((result.library, result.candidates), result)
    for ours in (result for result in best.values() if result.library == "keras_amm"):
        for theirs in (result for result in best.values() if result.library != "keras_amm"):
            print(against(ours, theirs), flush=True)


def against(ours: Result, theirs: Result) -> str:
    both = ours.success & theirs.success
    cpu = statistics.median(theirs.cpu_seconds) / statistics.median(ours.cpu_seconds)
    return (
        f"keras_amm with {ours.candidates} classes / {theirs.library}: throughput x {theirs.median / ours.median:.1f} "
        f"(best runs x {min(theirs.seconds) / min(ours.seconds):.1f}, by processor time x {cpu:.1f}), mean norm x "
        f"{ours.norms[both].mean() / theirs.norms[both].mean():.4f} over {both.sum()} images where both succeed"
    )


def main(argv: list[str]) -> None:
    del argv
    logging.getLogger().setLevel(logging.ERROR)  # Foolbox and ART log every batch
    made_with, found = versions(), []
    images = arrays.load("mnist", f"test[:{_IMAGES.value}]")
    for network in dict.fromkeys(_NETWORK.value):
        model = trained(network, _EPOCHS.value)
        for steps in dict.fromkeys(_STEPS.value):
            print(f"\n{network}, at most {steps} steps, {len(images)} test images of MNIST", flush=True)
            results = compare(model, images.x, images.y, steps)
            show(results, len(images))
            rows = [result.numbers() for result in results]
            found.append({"network": network, "steps": steps, "images": len(images), "results": rows})
    if _JSON.value:
        settings = {flag.name: flag.value for flag in (_EPOCHS, _IMAGES, _REPEATS)}
        write_json(pathlib.Path(_JSON.value), {"settings": settings, "versions": made_with, "measured": found})


if __name__ == "__main__":
    app.run(main)
