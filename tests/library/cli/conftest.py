"""Models and images that the tests of the command line share."""

import keras
import numpy as np
import pytest

from tests.library.cli.linear_models import MEAN, NUM_CLASSES, NUM_IMAGES, SHAPE, linear


@pytest.fixture(autouse=True)
def _eagerly(eagerly):
    """Every command loads its models anew, and would trace them anew; the pages of the documentation run compiled."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two models, and the same images as an .npz file and as files."""
    folder = tmp_path_factory.mktemp("cli")
    models = {name: linear(seed) for seed, name in enumerate(("one", "two"))}
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_IMAGES, *SHAPE), dtype="uint8")
    # In the order of class folders, which hold equally many.
    labels = np.sort(np.arange(NUM_IMAGES) % NUM_CLASSES)
    np.savez(folder / "images.npz", x_test=pixels, y_test=labels, x=pixels[:5] / 255.0, y=labels[:5, None])
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / "images" / "test" / f"class {label}").mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / f"images/test/class {label}/{i:03d}.png", image, scale=False)
    return folder


@pytest.fixture
def scaled(folder):
    with np.load(folder / "images.npz") as arrays:
        return arrays["x_test"] / 255.0 - MEAN
