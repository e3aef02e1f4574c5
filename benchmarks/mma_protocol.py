"""The margins of saved MNIST networks by the protocol of MMA training, beside its published numbers.

    python -m benchmarks.mma_protocol --models=one/model.keras,other/model.keras --out=mma

needs MNIST prepared by tensorflow-datasets (TFDS_DATA_DIR says where). The first 1,000 test images are attacked in the
l2 norm from their labels, within pixels of [0, 1]. The margin of an image is the smallest norm that any attack finds,
and 0 where it is misclassified. The attacks are the library's and, where foolbox is installed (pip install foolbox
numba), its DDN, FMN and Brendel-Bethge, which starts from DDN's points. Where all attacks fail, an image counts 0, and
the last column counts it.

Networks take pixels in [0, 1] less `--mean`, as those of `examples/mnist.py` do. What each attack finds of each 100
images is saved at once in the folder `--out`, one file per model: a run that was stopped goes on there. A file of other
weights is refused.

Reference: Ding et al., "MMA Training: Direct Input Space Margin Maximization through Adversarial Training", ICLR 2020.
"""

import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm
from examples.paper.data import arrays
from examples.paper.json_files import write_json
from examples.paper.training.run_records import digest, versions
from keras_amm.attack import changed

_MODELS = flags.DEFINE_list("models", [], "Saved models, each a file.keras.")
_OUT = flags.DEFINE_string("out", "mma", "The folder of the records.")
_IMAGES = flags.DEFINE_integer("num_images", 1000, "The first so many test images.", lower_bound=1)
_MEAN = flags.DEFINE_float("mean", arrays.MNIST_MEAN, "What the models expect to be subtracted from pixels in [0, 1].")
_RADII = flags.DEFINE_list("radii", ["0.5", "1", "1.5", "2", "2.5", "3"], "Radii of the accuracies shown.")

CHUNK = 100
_STEPS = 500


class Published(NamedTuple):
    """The margins of a training as Ding et al. report them, and its accuracy."""

    mean: float
    median: float
    accuracy: float


# MNIST, l2.
PUBLISHED = {
    "standard": Published(1.57, 1.57, 0.990),
    "PGD-1.0": Published(1.95, 1.95, 0.992),
    "MMA-2.0": Published(2.15, 2.22, 0.993),
    "PGD-2.0": Published(2.32, 2.43, 0.986),
}
# `(model, images, labels, bounds) -> norms`, infinite where the attack fails.
Attack = Callable[[keras.Model, np.ndarray, np.ndarray, tuple[float, float]], np.ndarray]


def main(argv: list[str]) -> None:
    del argv
    images = arrays.load("mnist", f"test[:{_IMAGES.value}]", mean=_MEAN.value)
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    bounds = (-_MEAN.value, 1.0 - _MEAN.value)
    reports = {}
    for path in map(pathlib.Path, _MODELS.value):
        name = f"{path.parent.name}-{path.stem}"
        model = keras.models.load_model(path, compile=False)
        reports[name] = measure(model, name, images, bounds, attacks(), out / f"{name}.json")
    print(table(reports, [float(radius) for radius in _RADII.value]))


def attacks() -> dict[str, Attack]:
    """By their names, the attacks whose smallest norm counts."""
    ours = {
        "DeepFool(50)": keras_amm.DeepFool(50, refine_steps=10),
        "SuperDeepFool()": keras_amm.SuperDeepFool(),
        "FastMinimumNorm(100)": keras_amm.FastMinimumNorm(100),
        "FastMinimumNorm(100, start=None)": keras_amm.FastMinimumNorm(100, start=None),
    }
    found: dict[str, Attack] = {name: by_keras_amm(attack) for name, attack in ours.items()}
    return {**found, **by_foolbox()} if importlib.util.find_spec("foolbox") else found


def by_keras_amm(attack: keras_amm.Attack) -> Attack:
    """One of the library's attacks, within bounds."""

    def norms(model: keras.Model, x: np.ndarray, y: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
        del y
        found = changed(attack, bounds=bounds).perturb(model, x)
        # Rounding may leave a point at the boundary itself on either side of it.
        return np.where(found.success, found.norm, np.inf)

    return norms


def by_foolbox() -> dict[str, Attack]:
    """Foolbox's attacks, which clip to the bounds by themselves."""
    import foolbox

    def points(attack: Any, model: keras.Model, x: np.ndarray, y: np.ndarray, bounds: Any, **start: Any) -> np.ndarray:
        # Foolbox refuses what rounding puts outside of the bounds.
        bounds = tuple(float(np.float32(bound)) for bound in bounds)
        attacked = foolbox.models.TensorFlowModel(model, bounds=bounds)
        criterion = foolbox.criteria.Misclassification(tf.constant(y))
        return attack.run(attacked, tf.clip_by_value(tf.constant(x), *bounds), criterion, **start).numpy()

    def ddn(model: keras.Model, x: np.ndarray, y: np.ndarray, bounds: Any) -> np.ndarray:
        return points(foolbox.attacks.DDNAttack(steps=_STEPS), model, x, y, bounds)

    def fmn(model: keras.Model, x: np.ndarray, y: np.ndarray, bounds: Any) -> np.ndarray:
        return points(foolbox.attacks.L2FMNAttack(steps=_STEPS), model, x, y, bounds)

    def brendel_bethge(model: keras.Model, x: np.ndarray, y: np.ndarray, bounds: Any) -> np.ndarray:
        found = np.array(ddn(model, x, y, bounds))
        # A start at the boundary itself is refused, since rounding may leave it on either side.
        start = np.clip(x + 1.001 * (found - x), *(np.float32(bound) for bound in bounds))
        beyond = np.argmax(model(start, training=False), axis=1) != y
        if beyond.any():
            attack = foolbox.attacks.L2BrendelBethgeAttack(steps=_STEPS)
            starts = tf.constant(start[beyond])
            found[beyond] = points(attack, model, x[beyond], y[beyond], bounds, starting_points=starts)
        return found

    found: dict[str, Attack] = {"Foolbox: DDN": _norms_of(ddn), "Foolbox: FMN": _norms_of(fmn)}
    if importlib.util.find_spec("numba"):
        found["Foolbox: Brendel-Bethge"] = _norms_of(brendel_bethge)
    return found


def _norms_of(points: Callable[..., np.ndarray]) -> Attack:
    """The norms of an attack that finds points, where these change the prediction."""

    def norms(model: keras.Model, x: np.ndarray, y: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
        # Only what is classified correctly can be attacked from its label.
        right = np.argmax(model(x, training=False), axis=1) == y
        found = np.zeros(len(x))
        if right.any():
            at = points(model, x[right], y[right].astype("int64"), bounds)
            changed = np.argmax(model(at, training=False), axis=1) != y[right]
            found[right] = np.where(changed, np.linalg.norm((at - x[right]).reshape(len(at), -1), axis=1), np.inf)
        return found

    return norms


def measure(
    model: keras.Model,
    name: str,
    images: arrays.Images,
    bounds: tuple[float, float],
    attacks: Mapping[str, Attack],
    path: pathlib.Path,
) -> keras_amm.MarginReport:
    """The report of the smallest norms; `path` holds what is known already, and gets what is found.

    Raises:
        ValueError: the file is of other weights, or of other bounds of the pixels.
    """
    record = _record(model, bounds, path)
    for first in range(0, len(images), CHUNK):
        part = images[first : first + CHUNK]
        for attack, norms in attacks.items():
            known = record["norms"].setdefault(attack, {})
            # A chunk of fewer images was the last one of a run of fewer.
            if len(known.get(str(first), [])) < len(part):
                found = norms(model, part.x, part.y, bounds)
                known[str(first)] = [None if np.isinf(norm) else float(norm) for norm in found]
                write_json(path, record)
                print(f"{name}: {attack}, images {first} to {first + len(part) - 1}", flush=True)
    return _report(model, name, images, {attack: record["norms"][attack] for attack in attacks})


def _record(model: keras.Model, bounds: tuple[float, float], path: pathlib.Path) -> dict[str, Any]:
    """What is known of a model."""
    weights = digest(model)
    if not path.exists():
        return {"weights": weights, "bounds": list(bounds), "versions": versions(), "norms": {}}
    record = json.loads(path.read_text())
    if record["weights"] != weights:
        raise ValueError(
            f"{path} is of a model of other weights. Expected: a folder of its own for these models, --out=FOLDER. "
            f"Received: weights {weights[:8]}, and a record of {record['weights'][:8]}."
        )
    # Records that do not name the bounds are of the default mean.
    known = record.setdefault("bounds", [-arrays.MNIST_MEAN, 1.0 - arrays.MNIST_MEAN])
    if not np.allclose(known, bounds):
        raise ValueError(
            f"{path} is of images between {known[0]:g} and {known[1]:g}. Expected: the same --mean, or a folder of its "
            f"own, --out=FOLDER. Received: images between {bounds[0]:g} and {bounds[1]:g}."
        )
    return record


def _report(
    model: keras.Model, name: str, images: arrays.Images, norms: Mapping[str, Mapping[str, list[float | None]]]
) -> keras_amm.MarginReport:
    of_each = [
        [np.inf if norm is None else norm for first in range(0, len(images), CHUNK) for norm in known[str(first)]]
        for known in norms.values()
    ]
    smallest = np.min(np.array(of_each)[:, : len(images)], axis=0)
    predictions = np.argmax(model.predict(images.x, verbose=0), axis=1)
    success = np.isfinite(smallest)
    smallest = np.where(success, smallest, 0.0)
    return keras_amm.MarginReport(
        norms=smallest,
        signed=np.where(predictions == images.y, smallest, 0.0),
        predictions=predictions,
        labels=images.y,
        success=success,
        model_name=name,
        units="l2, pixels in [0, 1]",
    )


def table(reports: Mapping[str, keras_amm.MarginReport], radii: list[float]) -> str:
    """The reports and the published numbers, as Markdown."""
    at = [f"at {radius:g}" for radius in radii]
    lines = [
        f"| network | images | accuracy | mean margin | median margin | {' | '.join(at)} | no point found |",
        f"| --- | --- | --- | --- | --- | {' | '.join('---' for _ in at)} | --- |",
    ]
    for name, published in PUBLISHED.items():
        cells = [f"{published.accuracy:.1%}", f"{published.mean:.2f}", f"{published.median:.2f}"]
        lines.append(f"| {name}, published | 1000 | {' | '.join([*cells, *('' for _ in at)])} | |")
    for name, report in reports.items():
        cells = [f"{report.accuracy:.1%}", f"{report.margin:.2f}", f"{report.margin_median:.2f}"]
        cells += [f"{share:.1%}" for share in report.robust_accuracy(radii)]
        lines.append(f"| {name} | {len(report)} | {' | '.join(cells)} | {np.sum(report.correct & ~report.success)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    app.run(main)
