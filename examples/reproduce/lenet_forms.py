"""LeNet's reference has a larger margin than in Table 3: the same training with other layers, weights and pixels.

    python examples/reproduce/lenet_forms.py --out=runs/lenet_forms

The paper names LeNet and its protocol, but its published code has no LeNet for MNIST. Each form here differs from
`lenet-mnist` and the protocol in something that is not certain: layers, initialisation, weight decay, learning rate,
pixels, order. References only, for a few epochs with drops of the learning rate in proportion to the paper's,
measured on the 5,000 held-out images. One JSON file per training; what is finished is not made again. The
table that is printed has the values of each seed.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import data_sets
import learning_rates
from coupled_sgd import CoupledDecaySGD
from data_sources import NotPreparedError
from image_data import MNIST_MEAN
from json_files import write_json
from planning import LEAST_EPOCHS, Schedule
from run_records import versions
from trainer import measure

_BATCH_SIZE = 100
_INITIALISATIONS: Mapping[str, Callable[[], keras.Initializer]] = MappingProxyType(
    {
        # Keras truncates it, and keeps its deviation; PyTorch does not.
        "msra": keras.initializers.HeNormal,
        # As the published code initialises the MLP.
        "msra-untruncated": lambda: keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal"),
        # As it initialises LiuNet.
        "msra-fan-out": lambda: keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        # Where PyTorch code does not initialise a layer's kernel itself.
        "pytorch": lambda: keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        # In Caffe's example.
        "xavier": lambda: keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
    }
)


@dataclasses.dataclass(frozen=True)
class Form:
    """LeNet and its training; the defaults are those of `lenet-mnist` and of the protocol.

    Attributes:
        title: what differs.
        filters: of the 5x5 convolutions, each of which is followed by pooling.
        units: of the hidden dense layers, which have ReLU.
        activation: after each convolution.
        padding: of the convolutions.
        pooling: "max" or "average".
        initialisation: of the convolutions' kernels, a key of `_INITIALISATIONS`.
        dense_initialisation: of the dense layers' kernels.
        l2: weight decay.
        learning_rate: the first one.
        scale: what pixels in [0, 1] are multiplied by, within the network, so that margins are of the same unit.
        mean: what was subtracted from the pixels before that.
        shuffle: whether each epoch has another order.
    """

    title: str
    filters: tuple[int, ...] = (20, 50)
    units: tuple[int, ...] = (500,)
    activation: str | None = None
    padding: str = "valid"
    pooling: str = "max"
    initialisation: str = "msra"
    dense_initialisation: str = "msra"
    l2: float = 1e-4
    learning_rate: float = 5e-3
    scale: float = 1.0
    mean: float = MNIST_MEAN
    shuffle: bool = True


_LECUN: dict[str, Any] = {"filters": (6, 16), "units": (120, 84)}

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "ours": Form("nothing"),
        "relu": Form("ReLU after the convolutions", activation="relu"),
        "average": Form("average pooling", pooling="average"),
        "same": Form("convolutions padded", padding="same"),
        "wide": Form("32 and 64 filters, 1,024 units", filters=(32, 64), units=(1024,)),
        "lecun": Form("6 and 16 filters, 120 and 84 units (LeCun et al.)", **_LECUN),
        "lecun-relu": Form("the same, with ReLU after the convolutions", activation="relu", **_LECUN),
        "untruncated": Form(
            "MSRA not truncated, as the authors' MLP",
            initialisation="msra-untruncated",
            dense_initialisation="msra-untruncated",
        ),
        "fan-out": Form("MSRA by fan-out", initialisation="msra-fan-out", dense_initialisation="msra-fan-out"),
        "fan-out-convolutions": Form("MSRA by fan-out, convolutions only", initialisation="msra-fan-out"),
        "fan-out-dense": Form("MSRA by fan-out, dense layers only", dense_initialisation="msra-fan-out"),
        "fan-out-pytorch": Form(
            "MSRA by fan-out for convolutions, PyTorch's default for dense layers, as the authors' LiuNet",
            initialisation="msra-fan-out",
            dense_initialisation="pytorch",
        ),
        "pytorch-dense": Form("dense layers by PyTorch's default", dense_initialisation="pytorch"),
        "pytorch": Form(
            "convolutions and dense layers by PyTorch's default",
            initialisation="pytorch",
            dense_initialisation="pytorch",
        ),
        "xavier": Form("Caffe's initialisation", initialisation="xavier", dense_initialisation="xavier"),
        "no-decay": Form("no weight decay", l2=0.0),
        "more-decay": Form("weight decay of 5e-4", l2=5e-4),
        "rate": Form("learning rate of 1e-2", learning_rate=1e-2),
        "deviation": Form("pixels divided by their deviation", scale=1 / 0.3081),
        "no-mean": Form("no mean subtracted", mean=0.0),
        "fixed-batches": Form("the same batches in every epoch", shuffle=False),
    }
)


def _main(argv: list[str]) -> None:
    """Train what is missing, and print the table of all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    if unknown := set(flags.FLAGS.forms) - set(FORMS):
        raise app.UsageError(f"Expected of {', '.join(FORMS)}. Received: {', '.join(sorted(unknown))}.")
    out = pathlib.Path(flags.FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    print("| what differs | held-out error | margin |\n| --- | --- | --- |")
    for name in flags.FLAGS.forms:
        results = []
        for seed in range(flags.FLAGS.seeds):
            path = out / f"{name}.epochs-{flags.FLAGS.epochs}.seed-{seed}.json"
            if not path.exists():
                try:
                    write_json(path, train(FORMS[name], seed, flags.FLAGS.epochs))
                except NotPreparedError as error:
                    raise SystemExit(str(error)) from error
            results.append(_read(path, FORMS[name]))
        error, margin = (
            ", ".join(f"{result[key]:.2f}{unit}" for result in results)
            for key, unit in (("error_percent", "%"), ("margin_mean", ""))
        )
        print(f"| {FORMS[name].title} | {error} | {margin} |", flush=True)


def _read(path: pathlib.Path, form: Form) -> dict[str, Any]:
    result = json.loads(path.read_text())
    wanted = json.loads(json.dumps(dataclasses.asdict(form)))
    if result["form"] | {"title": form.title} != wanted:
        raise SystemExit(f"{path} is of another form, {result['form']}, not {wanted}. Remove it, and it is made again.")
    return result


def train(form: Form, seed: int, epochs: int) -> dict[str, Any]:
    """A training without AMM, and its measurement on the held-out images.

    Args:
        form: `Form`.
        seed: int, of initial weights and order.
        epochs: int.

    Returns:
        A dictionary that JSON can hold.
    """
    # The code that is loaded, whatever is checked out when it ends.
    made_with = versions()
    keras.utils.set_random_seed(seed)
    data = data_sets.load("mnist", _BATCH_SIZE, seed, shuffle=form.shuffle)
    model = build(form)
    rate = learning_rates.dropping(form.learning_rate, Schedule(epochs).drops, (0.1, 0.01), len(data.train))
    model.compile(
        CoupledDecaySGD(rate, momentum=0.9, l2=form.l2, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(data.train, epochs=epochs, callbacks=[data.callback], verbose=0)
    measured = measure(model, data.validation)
    return {"form": dataclasses.asdict(form), "seed": seed, "epochs": epochs, "versions": made_with, **measured}


def build(form: Form) -> keras.Model:
    """The network, with new weights.

    Args:
        form: `Form`.

    Returns:
        `keras.Model`: MNIST images [B, 28, 28, 1], less the data set's mean, to logits [B, 10].
    """
    # An initializer draws the same numbers whenever it is called.
    of_convolutions, of_dense = (_INITIALISATIONS[name] for name in (form.initialisation, form.dense_initialisation))
    pooling = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}[form.pooling]
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(form.scale, form.scale * (MNIST_MEAN - form.mean))(inputs)
    for filters in form.filters:
        x = keras.layers.Conv2D(
            filters, 5, padding=form.padding, activation=form.activation, kernel_initializer=of_convolutions()
        )(x)
        x = pooling(2)(x)
    x = keras.layers.Flatten()(x)
    for units in form.units:
        x = keras.layers.Dense(units, "relu", kernel_initializer=of_dense())(x)
    return keras.Model(inputs, keras.layers.Dense(10, kernel_initializer=of_dense())(x))


if __name__ == "__main__":
    flags.DEFINE_list("forms", list(FORMS), "which forms")
    flags.DEFINE_integer("seeds", 1, "trainings of each form, with seeds from 0", lower_bound=1)
    flags.DEFINE_integer("epochs", 6, "epochs of each training", lower_bound=LEAST_EPOCHS)
    flags.DEFINE_string("out", "runs/lenet_forms", "folder of the trainings' JSON files")
    app.run(_main)
