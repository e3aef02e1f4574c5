"""How much the library's attacks overestimate the distance to the boundary, compared with other minimal-norm attacks.

    pip install foolbox numba adversarial-robustness-toolbox absl-py tensorflow-datasets importlib_resources
    python -m benchmarks.tightness

needs MNIST prepared by tensorflow-datasets (TFDS_DATA_DIR says where).

    python -m benchmarks.tightness --models=one/model.keras,other/model.keras --attacks=ddn

attacks saved models instead, such as the examples leave, on the same images; `--amm` attacks the networks after
training with AMM. For each test image, the norm is divided by the smallest norm that any of the other attacks finds.
Seconds are of a second run, in which nothing is compiled any more; Foolbox's attacks compile nothing. These
are DDN (Rony et al. 2019), FMN (Pintor et al. 2021) and Brendel-Bethge (2019), which starts from DDN's
points, by Foolbox, and Carlini-Wagner (2017) by ART. None is a lower bound: the true distance may be
smaller still. With `--norm=linf` it is FMN alone, for l-infinity. All are untargeted from the predicted class, and
none clips: Foolbox, which always clips, is given bounds that no image reaches, and ART's attack, which scales by its
bounds, a wide box. `--json` leaves a record.
"""

import pathlib
import sys
import time
from typing import Any
from unittest import mock

import foolbox
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm
from examples.paper.data import arrays
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions
from keras_amm.search import linearisation, rivals

from .networks import MNIST, trained

ATTACKS = {"ddn": "DDN", "fmn": "FMN", "brendel-bethge": "Brendel-Bethge", "carlini-wagner": "Carlini-Wagner (ART)"}

_NETWORK = flags.DEFINE_multi_enum("network", ["mlp-800", "lenet-mnist"], MNIST, "Networks to attack.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of training before the attack.", lower_bound=0)
_IMAGES = flags.DEFINE_integer("images", 200, "Test images to attack.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 500, "Steps of Foolbox's attacks.", lower_bound=1)
_AMM = flags.DEFINE_bool("amm", False, "Train with AMM's default penalty.")
_MODELS = flags.DEFINE_list("models", [], "Saved models for MNIST to attack, in place of training networks.")
_ATTACKS = flags.DEFINE_multi_enum("attacks", list(ATTACKS), list(ATTACKS), "Stronger attacks to compare with.")
_NORM = flags.DEFINE_enum("norm", "l2", ["l2", "linf"], "Norm of the perturbations; only --attacks=fmn knows linf.")
_JSON = flags.DEFINE_string("json", None, "Where to save the numbers.")

_BOUNDS = (-1000.0, 1000.0)
_BOX = (-2.0, 3.0)


def settings(norm: str) -> dict[str, keras_amm.Attack]:
    """The library's attacks that are compared, in a norm."""
    return {
        "DeepFool, 6 steps (the default)": keras_amm.DeepFool(norm=norm),
        "DeepFool, 50 steps": keras_amm.DeepFool(50, norm=norm),
        "DeepFool, 50 steps, 10 bisections": keras_amm.DeepFool(50, refine_steps=10, norm=norm),
        "SuperDeepFool (its defaults)": keras_amm.SuperDeepFool(norm=norm),
        "FMN, 10 steps from the image": keras_amm.FastMinimumNorm(10, start=None, norm=norm),
        "FMN, 30 steps from the image": keras_amm.FastMinimumNorm(30, start=None, norm=norm),
        "FMN, 30 steps from DeepFool (its defaults)": keras_amm.FastMinimumNorm(norm=norm),
    }


def main(argv: list[str]) -> None:
    del argv
    if _NORM.value == "linf" and set(_ATTACKS.value) != {"fmn"}:
        sys.exit("Of Foolbox's attacks, --norm=linf compares with FMN only. Pass --attacks=fmn.")
    made_with = versions()
    images = arrays.load("mnist", f"test[:{_IMAGES.value}]")
    # The optimizer of a saved model, which may be an example's own, is not needed.
    models = {path: lambda path=path: keras.models.load_model(path, compile=False) for path in _MODELS.value} or {
        f"{network}{' with AMM' * _AMM.value}": lambda network=network: trained(network, _EPOCHS.value, _AMM.value)
        for network in _NETWORK.value
    }
    found = {name: compare(load(), name, images.x) for name, load in models.items()}
    if _JSON.value:
        # How saved models were trained, their own records say.
        of_training = () if _MODELS.value else (_EPOCHS, _AMM)
        options = {flag.name: flag.value for flag in (*of_training, _IMAGES, _STEPS, _ATTACKS, _NORM)}
        record = {"settings": options, "versions": made_with, "networks": found}
        write_json(pathlib.Path(_JSON.value), record)


def compare(model: keras.Model, name: str, x: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    """Print how far all attacks come on one network; the same as numbers that JSON can hold."""
    stronger = stronger_attacks(model, x)
    smallest = np.minimum.reduce([norms for norms, _ in stronger.values()])
    print(f"\n{name}, {len(x)} test images of MNIST, {_STEPS.value} steps of Foolbox's attacks\n")
    others = {}
    for title, (norms, seconds) in stronger.items():
        found = np.isfinite(norms)
        others[title] = row = {
            "mean_norm": float(norms[found].mean()),
            "success": float(found.mean()),
            "smallest_for": float(np.mean(norms <= smallest)),
            "seconds": seconds,
        }
        print(
            f"{title}: mean norm {row['mean_norm']:.4f} over {found.sum()} images, smallest for "
            f"{row['smallest_for']:.0%}, {seconds:.1f} s"
        )
    print("\n| | mean norm | ratio to the smallest: median | quartiles | success | gradients per image | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ours = {}
    for title, attack in settings(_NORM.value).items():
        ours[title] = row = beside(attack, model, x, smallest)
        low, high = row["ratio_quartiles"]
        print(
            f"| {title} | {row['mean_norm']:.4f} | {row['ratio_median']:.3f} | {low:.3f} .. {high:.3f} | "
            f"{row['success']:.1%} | {row['gradients_per_image']:.1f} | {row['seconds']:.2f} |",
            flush=True,
        )
    return {"others": others, "library": ours}


def beside(attack: keras_amm.Attack, model: keras.Model, x: np.ndarray, smallest: np.ndarray) -> dict[str, Any]:
    """One of the library's attacks: its norms beside the smallest [n] that the others find, and what it costs."""
    attack.perturb(model, x)
    start = time.perf_counter()
    found = attack.perturb(model, x)
    seconds = time.perf_counter() - start
    success = found.success.numpy() & np.isfinite(smallest)
    norms = found.norm.numpy()[success]
    low, middle, high = map(float, np.percentile(norms / smallest[success], [25, 50, 75]))
    return {
        "mean_norm": float(norms.mean()),
        "ratio_median": middle,
        "ratio_quartiles": [low, high],
        "success": float(success.mean()),
        "gradients_per_image": gradients_per_image(attack, model, x),
        "seconds": seconds,
    }


def gradients_per_image(attack: keras_amm.Attack, model: keras.Model, x: np.ndarray) -> float:
    """How many gradients of a logit difference with respect to an image the attack computes, on average."""
    counts = []

    def counting(module: Any, name: str, number_of: Any) -> Any:
        function = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            counts.append(int(number_of(*arguments)))
            return function(*arguments, **options)

        return mock.patch.object(module, name, counted)

    tf.config.run_functions_eagerly(True)
    try:
        with (
            counting(linearisation, "_gradients", lambda _, clean, values, columns: tf.size(values)),
            counting(linearisation, "_gradients_of_pairs", lambda _, x, source, sample, *others: tf.size(sample)),
            counting(rivals, "image_gradient", lambda tape, g, x: tf.size(g)),
        ):
            attack.perturb(model, x)
    finally:
        tf.config.run_functions_eagerly(False)
    return sum(counts) / len(x)


def stronger_attacks(model: keras.Model, x: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """By attack, the norms that it finds, infinite where the prediction does not change, and the seconds it takes."""
    steps = _STEPS.value
    start = time.perf_counter()
    # Brendel-Bethge starts from its points.
    is_needed = {"ddn", "brendel-bethge"} & set(_ATTACKS.value)
    ddn = with_foolbox(model, x, foolbox.attacks.DDNAttack(steps=steps)) if is_needed else None
    seconds = {"ddn": time.perf_counter() - start}
    fmn = foolbox.attacks.L2FMNAttack if _NORM.value == "l2" else foolbox.attacks.LInfFMNAttack
    attacks = {
        "ddn": lambda: ddn,
        "fmn": lambda: with_foolbox(model, x, fmn(steps=steps)),
        "brendel-bethge": lambda: with_foolbox(
            model, x, foolbox.attacks.L2BrendelBethgeAttack(steps=steps), starting_points=tf.constant(ddn)
        ),
        "carlini-wagner": lambda: with_art(model, x),
    }
    found = {}
    for name in dict.fromkeys(_ATTACKS.value):
        start = time.perf_counter()
        norms = minimal_norms(model, x, attacks[name]())
        found[ATTACKS[name]] = norms, seconds.get(name, time.perf_counter() - start)
    return found


def with_foolbox(model: keras.Model, x: np.ndarray, attack: foolbox.attacks.base.Attack, **start: Any) -> np.ndarray:
    attacked = foolbox.models.TensorFlowModel(model, bounds=_BOUNDS, device="/CPU:0")
    predictions = tf.argmax(model(x, training=False), axis=1)
    return attack.run(attacked, tf.constant(x), foolbox.criteria.Misclassification(predictions), **start).numpy()


def with_art(model: keras.Model, x: np.ndarray) -> np.ndarray:
    # Imported here, because all the others do without it.
    from art.attacks.evasion import CarliniL2Method
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(model, nb_classes=10, input_shape=x.shape[1:], clip_values=_BOX)
    attack = CarliniL2Method(
        classifier, learning_rate=0.01, binary_search_steps=9, max_iter=200, batch_size=len(x), verbose=False
    )
    return attack.generate(x)


def minimal_norms(model: keras.Model, x: np.ndarray, points: np.ndarray) -> np.ndarray:
    changed = np.argmax(model(points, training=False), axis=1) != np.argmax(model(x, training=False), axis=1)
    order = np.inf if _NORM.value == "linf" else 2
    return np.where(changed, np.linalg.norm((points - x).reshape(len(x), -1), ord=order, axis=1), np.inf)


if __name__ == "__main__":
    app.run(main)
