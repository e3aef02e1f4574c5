"""How much DeepFool overestimates the distance to the boundary, compared with stronger minimal-norm attacks.

    pip install foolbox numba adversarial-robustness-toolbox absl-py tensorflow-datasets importlib_resources
    python -m benchmarks.tightness

needs MNIST prepared by tensorflow-datasets (TFDS_DATA_DIR says where).

    python -m benchmarks.tightness --models=one/model.keras,other/model.keras --attacks=ddn

attacks saved models instead, such as the examples leave, on the same images. For each test
image, DeepFool's norm is divided by the smallest norm that any of the stronger attacks finds. These
are DDN (Rony et al. 2019), FMN (Pintor et al. 2021) and Brendel-Bethge (2019), which starts from DDN's
points, by Foolbox, and Carlini-Wagner (2017) by ART. None is a lower bound: the true distance may be
smaller still. All are untargeted from the predicted class, and none clips: Foolbox, which
always clips, is given bounds that no image reaches, and ART's attack, which scales by its bounds, a wide box.
"""

from typing import Any

import foolbox
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from art.attacks.evasion import CarliniL2Method
from art.estimators.classification import TensorFlowV2Classifier

import keras_amm
from examples.paper.data import arrays

from .networks import MNIST, trained

# Brendel-Bethge starts from DDN's points.
ATTACKS = {"ddn": "DDN", "fmn": "FMN", "brendel-bethge": "Brendel-Bethge", "carlini-wagner": "Carlini-Wagner (ART)"}

_NETWORK = flags.DEFINE_multi_enum("network", ["mlp-800", "lenet-mnist"], MNIST, "Networks to attack.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of training before the attack.", lower_bound=0)
_IMAGES = flags.DEFINE_integer("images", 200, "Test images to attack.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 500, "Steps of Foolbox's attacks.", lower_bound=1)
_MODELS = flags.DEFINE_list("models", [], "Saved models for MNIST to attack, in place of training networks.")
_ATTACKS = flags.DEFINE_multi_enum("attacks", list(ATTACKS), list(ATTACKS), "Stronger attacks to compare with.")

_BOUNDS = (-1000.0, 1000.0)
_BOX = (-2.0, 3.0)

SETTINGS = {
    "DeepFool, 6 steps (the default)": keras_amm.DeepFool(),
    "DeepFool, 50 steps": keras_amm.DeepFool(50),
    "DeepFool, 50 steps, 10 bisections": keras_amm.DeepFool(50, refine_steps=10),
}


def main(argv: list[str]) -> None:
    del argv
    images = arrays.load("mnist", f"test[:{_IMAGES.value}]")
    for path in _MODELS.value:
        # The optimizer, which may be an example's own, is not needed.
        compare(keras.models.load_model(path, compile=False), path, images.x)
    for network in dict.fromkeys(() if _MODELS.value else _NETWORK.value):
        compare(trained(network, _EPOCHS.value), network, images.x)


def compare(model: keras.Model, name: str, x: np.ndarray) -> None:
    stronger = stronger_attacks(model, x)
    smallest = np.minimum.reduce(list(stronger.values()))
    print(f"\n{name}, {len(x)} test images of MNIST, {_STEPS.value} steps of Foolbox's attacks\n")
    for name, norms in stronger.items():
        found = np.isfinite(norms)
        share = np.mean(norms <= smallest)
        print(f"{name}: mean norm {norms[found].mean():.4f} over {found.sum()} images, smallest for {share:.0%}")
    print("\n| | mean norm | ratio to the smallest: median | quartiles | success |\n| --- | --- | --- | --- | --- |")
    for name, attack in SETTINGS.items():
        found = attack.perturb(model, x)
        success = found.success.numpy() & np.isfinite(smallest)
        norms = found.norm.numpy()[success]
        low, middle, high = np.percentile(norms / smallest[success], [25, 50, 75])
        print(
            f"| {name} | {norms.mean():.4f} | {middle:.3f} | {low:.3f} .. {high:.3f} | {success.mean():.1%} |",
            flush=True,
        )


def stronger_attacks(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """The norms that each attack finds, infinite where the prediction does not change."""
    steps = _STEPS.value
    ddn = with_foolbox(model, x, foolbox.attacks.DDNAttack(steps=steps))
    attacks = {
        "ddn": lambda: ddn,
        "fmn": lambda: with_foolbox(model, x, foolbox.attacks.L2FMNAttack(steps=steps)),
        "brendel-bethge": lambda: with_foolbox(
            model, x, foolbox.attacks.L2BrendelBethgeAttack(steps=steps), starting_points=tf.constant(ddn)
        ),
        "carlini-wagner": lambda: with_art(model, x),
    }
    return {ATTACKS[name]: minimal_norms(model, x, attacks[name]()) for name in dict.fromkeys(_ATTACKS.value)}


def with_foolbox(model: keras.Model, x: np.ndarray, attack: foolbox.attacks.base.Attack, **start: Any) -> np.ndarray:
    attacked = foolbox.models.TensorFlowModel(model, bounds=_BOUNDS, device="/CPU:0")
    predictions = tf.argmax(model(x, training=False), axis=1)
    return attack.run(attacked, tf.constant(x), foolbox.criteria.Misclassification(predictions), **start).numpy()


def with_art(model: keras.Model, x: np.ndarray) -> np.ndarray:
    classifier = TensorFlowV2Classifier(model, nb_classes=10, input_shape=x.shape[1:], clip_values=_BOX)
    attack = CarliniL2Method(
        classifier, learning_rate=0.01, binary_search_steps=9, max_iter=200, batch_size=len(x), verbose=False
    )
    return attack.generate(x)


def minimal_norms(model: keras.Model, x: np.ndarray, points: np.ndarray) -> np.ndarray:
    changed = np.argmax(model(points, training=False), axis=1) != np.argmax(model(x, training=False), axis=1)
    return np.where(changed, np.linalg.norm((points - x).reshape(len(x), -1), axis=1), np.inf)


if __name__ == "__main__":
    app.run(main)
