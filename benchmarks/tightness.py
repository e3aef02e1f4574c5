"""How much DeepFool overestimates the distance to the boundary: beside stronger minimal-norm attacks.

    pip install foolbox absl-py tensorflow-datasets importlib_resources
    python benchmarks/tightness.py

needs MNIST prepared by tensorflow-datasets (TFDS_DATA_DIR says where). Per test
image, DeepFool's norm is divided by the smallest that any of the stronger attacks of Foolbox finds:
DDN (Rony et al. 2019) and FMN (Pintor et al. 2021). None is a bound from below: the true distance may be
smaller still. All are untargeted from the predicted class, and none clips: Foolbox, which
always clips, is given bounds that no image reaches.
"""

import pathlib
import sys

import foolbox
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "examples"))
import image_data
from networks import MNIST, trained

_NETWORK = flags.DEFINE_multi_enum("network", ["mlp-800", "lenet-mnist"], MNIST, "Networks to attack.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of training before the attack.", lower_bound=0)
_IMAGES = flags.DEFINE_integer("images", 200, "Test images to attack.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 500, "Steps of DDN and FMN.", lower_bound=1)

_BOUNDS = (-1000.0, 1000.0)

SETTINGS = {
    "DeepFool, 6 steps (the default)": keras_amm.DeepFool(),
    "DeepFool, 50 steps": keras_amm.DeepFool(50),
    "DeepFool, 50 steps, 10 bisections": keras_amm.DeepFool(50, refine_steps=10),
}


def main(argv: list[str]) -> None:
    del argv
    images = image_data.load("mnist", f"test[:{_IMAGES.value}]")
    for network in dict.fromkeys(_NETWORK.value):
        model = trained(network, _EPOCHS.value)
        compare(model, images.x)


def compare(model: keras.Model, x: np.ndarray) -> None:
    attacks = {
        "DDN": foolbox.attacks.DDNAttack(steps=_STEPS.value),
        "FMN": foolbox.attacks.L2FMNAttack(steps=_STEPS.value),
    }
    stronger = {name: minimal_norms(model, x, attack) for name, attack in attacks.items()}
    smallest = np.minimum.reduce(list(stronger.values()))
    print(f"\n{model.name}, {len(x)} test images of MNIST, {_STEPS.value} steps of DDN and FMN\n")
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


def minimal_norms(model: keras.Model, x: np.ndarray, attack: foolbox.attacks.base.Attack) -> np.ndarray:
    """The norms that a Foolbox attack finds, infinite where the prediction does not change."""
    attacked = foolbox.models.TensorFlowModel(model, bounds=_BOUNDS, device="/CPU:0")
    predictions = tf.argmax(model(x, training=False), axis=1)
    found = attack.run(attacked, tf.constant(x), foolbox.criteria.Misclassification(predictions)).numpy()
    changed = np.argmax(model(found, training=False), axis=1) != predictions.numpy()
    return np.where(changed, np.linalg.norm((found - x).reshape(len(x), -1), axis=1), np.inf)


if __name__ == "__main__":
    app.run(main)
