"""Pictures of margins: what an attack changes, where the boundary runs, how margins grow.

    python examples/pictures.py --out=pictures

trains the same MLP without and with AMM, from three seeds each, on the 5,000 images of MNIST that come with the
repository. That takes about three minutes on two cores. It saves

- `training_curves.png`, accuracy and mean margin (the paper's, of all images) on test images over the epochs,
- `perturbations.png`, test images and the smallest changes that DeepFool finds to change their class,
- `cross_section.png`, the decision regions around one of them, without and with AMM.

`--epochs=1 --seeds=1` is a quick check that it runs; AMM takes longer to show a gain.
"""

import pathlib
from typing import Any

import keras
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure

import keras_amm
from paper.data.arrays import Images, load_subset
from paper.training.small_mlp import BATCH_SIZE, compiled_mlp

MEASURED = 500
SHOWN = 8

flags.DEFINE_integer("epochs", 10, "number of epochs", lower_bound=1)
flags.DEFINE_integer("seeds", 3, "how many times to train, from as many initialisations", lower_bound=1)
flags.DEFINE_string("out", "pictures", "the folder where to save the pictures")
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Train and draw."""
    del argv
    train, test = load_subset()
    models: dict[str, keras.Model] = {}
    histories: dict[str, list[Any]] = {"without AMM": [], "with AMM": []}
    for name, runs in histories.items():
        for seed in range(FLAGS.seeds):
            print(f"Training {name}, seed {seed}")
            model, history = fit(name == "with AMM", seed, train, test)
            runs.append(history)
            # Of the first seed: the same initialisation and order for both.
            models.setdefault(name, model)
    out = pathlib.Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "training_curves": draw_curves(histories),
        "perturbations": draw_perturbations(models["with AMM"], test[:SHOWN]),
        "cross_section": draw_cross_sections(models, test.x[:1]),
    }.items():
        figure.savefig(out / f"{name}.png", dpi=150)
        print(f"Saved {out / name}.png")


def fit(with_amm: bool, seed: int, train: Images, test: Images) -> tuple[keras.Model, keras.callbacks.History]:
    """Train a new network, measuring margins after each epoch."""
    keras.utils.set_random_seed(seed)
    model = compiled_mlp(with_amm, FLAGS.epochs, len(train))
    history = model.fit(
        train.x,
        train.y,
        batch_size=BATCH_SIZE,
        epochs=FLAGS.epochs,
        validation_data=(test.x, test.y),
        callbacks=[keras_amm.callbacks.MarginLogger((test.x[:MEASURED], test.y[:MEASURED]))],
        verbose=2,
    )
    return model, history


def draw_curves(histories: dict[str, list[Any]]) -> Figure:
    """Accuracy and margin over the epochs."""
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    accuracy, margin = figure.subplots(1, 2)
    keras_amm.plots.training_curves(histories, "val_accuracy", accuracy, label="test accuracy")
    return keras_amm.plots.training_curves(histories, "val_paper_margin", margin, label="mean margin (l2)")


def draw_perturbations(model: keras.Model, images: Images) -> Figure:
    """Images before and after DeepFool."""
    delta = keras_amm.DeepFool().perturb(model, images.x).delta.numpy()
    before, after = (np.argmax(model.predict(x, verbose=0), axis=1) for x in (images.x, images.x + delta))
    return keras_amm.plots.perturbation_grid(images.x, delta, before, after, labels=images.y)


def draw_cross_sections(models: dict[str, keras.Model], x: np.ndarray) -> Figure:
    """The decision regions around one image, on equal scales."""
    deltas = {name: keras_amm.DeepFool().perturb(model, x).delta[0] for name, model in models.items()}
    reach = 3.0 * max(float(np.linalg.norm(delta)) for delta in deltas.values())
    figure = Figure(figsize=(13.0, 4.6), layout="constrained")
    for axis, (name, delta) in zip(figure.subplots(1, 2), deltas.items(), strict=True):
        keras_amm.plots.boundary_cross_section(models[name], x[0], delta, axes=axis, reach=reach)
        axis.set_title(name)
    return figure


if __name__ == "__main__":
    app.run(main)
