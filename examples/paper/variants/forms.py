"""The same MNIST training in other forms, to find what a difference from the paper comes from.

`lenet_forms.py` and `lin_forms.py` declare theirs and train them with this. A form differs from the paper's protocol in
something that is not certain. Each is trained for a few epochs, with drops of the learning rate in proportion to
the paper's, and measured on the 5,000 held-out images; with `--test` on the test images, trained on all others, to see
what one that was found there makes of the paper's numbers.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
from absl import app, flags

from ..data import data_sets
from ..data.arrays import MNIST_MEAN
from ..data.sources import NotPreparedError
from ..json_files import write_json
from ..reproduce.planning import LEAST_EPOCHS, Schedule
from ..training import learning_rates, run_folder
from ..training.checkpoints import Checkpoint, restore
from ..training.coupled_sgd import CoupledDecaySGD
from ..training.run_folder import InUseError
from ..training.run_records import versions
from ..training.trainer import measure

_BATCH_SIZE = 100
INITIALISATIONS: Mapping[str, Callable[[], keras.Initializer]] = MappingProxyType(
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
    """What forms of any network may differ in; the defaults are the protocol's.

    All but the title have a default that never changes: files from before there was a choice are taken to be of it.

    Attributes:
        title: what differs.
        l2: weight decay.
        learning_rate: the first one.
        scale: what pixels in [0, 1] are multiplied by, within the network, so that margins are of the same unit.
        mean: what was subtracted from the pixels before that.
        shuffle: whether each epoch has another order.
        global_clipnorm: the largest norm of the gradient; None for any.
    """

    title: str
    l2: float = 1e-4
    learning_rate: float = 5e-3
    scale: float = 1.0
    mean: float = MNIST_MEAN
    shuffle: bool = True
    global_clipnorm: float | None = 10.0


def pixels(form: Form, inputs: Any) -> Any:
    """MNIST images less the data set's mean, as the form has them.

    Args:
        form: `Form`.
        inputs: `keras.Input`, float32 [B, 28, 28, 1].

    Returns:
        The same shape.
    """
    return keras.layers.Rescaling(form.scale, form.scale * (MNIST_MEAN - form.mean))(inputs)


def define_flags(forms: Mapping[str, Form], epochs: int, out: str) -> None:
    """The command line of a script with forms.

    Args:
        forms: the forms by name.
        epochs: int, the default.
        out: str, the default folder.
    """
    flags.DEFINE_list("forms", list(forms), "names of forms, or of what stands before a dot in them for all of these")
    flags.DEFINE_integer("seeds", 1, "trainings of each form, with seeds from 0", lower_bound=1)
    flags.DEFINE_integer("epochs", epochs, "epochs of each training", lower_bound=LEAST_EPOCHS)
    flags.DEFINE_bool("test", False, "train on all images and measure on the test images, as the paper's tables do")
    flags.DEFINE_string("out", out, "folder of the trainings' JSON files")


class Training(NamedTuple):
    """One training of a form.

    Attributes:
        seed: int, of initial weights and order.
        epochs: int.
        test: bool, whether to train on all images and measure on the test images, in place of those held out.
        checkpoint: path of a file `.weights.h5` from which it goes on if it is cut off; None for none.
    """

    seed: int
    epochs: int
    test: bool = False
    checkpoint: pathlib.Path | None = None


# Of a form, see `fit`.
Train = Callable[[Any, Training], dict[str, Any]]


def main(forms: Mapping[str, Any], train: Train, argv: list[str]) -> None:
    """Compare the forms that the command line names.

    Args:
        forms: the forms by name.
        train: `Train`.
        argv: what the flags left.

    Raises:
        app.UsageError: there is no such form or argument.
        SystemExit: what is in the folder is of other forms or in use, or the data set is not there.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    try:
        chosen = choose(forms, flags.FLAGS.forms)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    try:
        compare(chosen, train, flags.FLAGS.seeds, flags.FLAGS.epochs, pathlib.Path(flags.FLAGS.out), flags.FLAGS.test)
    except (NotPreparedError, OtherFormError, InUseError) as error:
        raise SystemExit(str(error)) from error


def choose(forms: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Forms by their names.

    Args:
        forms: the forms by name.
        names: strings, each a form's name, or the part before the dot, which stands for all that begin with it.

    Returns:
        The forms of these names, in their own order.

    Raises:
        ValueError: there is no such form, or none is named.

    Example:
    >>> choose({"avg.ours": 1, "avg.rate": 2, "min.ours": 3}, ["avg"])
    {'avg.ours': 1, 'avg.rate': 2}
    """
    if not names:
        raise ValueError(f"Expected of {', '.join(forms)}. Received none.")
    if unknown := set(names) - set(forms) - {name.partition(".")[0] for name in forms}:
        raise ValueError(f"Expected of {', '.join(forms)}. Received: {', '.join(sorted(unknown))}.")
    return {name: form for name, form in forms.items() if {name, name.partition(".")[0]} & set(names)}


class OtherFormError(ValueError):
    """A file is of a form that has been changed since."""


def compare(
    forms: Mapping[str, Any], train: Train, seeds: int, epochs: int, out: pathlib.Path, test: bool = False
) -> None:
    """Train what is missing, one JSON file each, and print the table of all.

    Args:
        forms: the forms by name.
        train: `Train`.
        seeds: int, trainings of each form, with seeds from 0.
        epochs: int, of each training.
        out: path of the folder of the files.
        test: bool, whether to train on all images and measure on the test images.

    Raises:
        OtherFormError: a file there is of another form.
        InUseError: another process trains one of them.
        NotPreparedError: the data set is not there.
    """
    suffix = f"{'test.' if test else ''}epochs-{epochs}.seed"
    paths = {name: [out / f"{name}.{suffix}-{seed}.json" for seed in range(seeds)] for name in forms}
    # Before anything is trained, which may take hours.
    for name, form in forms.items():
        for path in filter(pathlib.Path.exists, paths[name]):
            _refuse_other_form(path, form)
    print(f"| what differs | {'test' if test else 'held-out'} error | margin |\n| --- | --- | --- |")
    for name, form in forms.items():
        results = [_once(path, form, Training(seed, epochs, test), train) for seed, path in enumerate(paths[name])]
        error, margin = (
            ", ".join(f"{result[key]:.2f}{unit}" for result in results)
            for key, unit in (("error_percent", "%"), ("margin_mean", ""))
        )
        print(f"| {form.title} | {error} | {margin} |", flush=True)


def _once(path: pathlib.Path, form: Form, training: Training, train: Train) -> dict[str, Any]:
    """The result in a file, which is made if it is not there; until then what is done is in a folder beside it."""
    folder = path.with_suffix("")
    if not path.exists():
        with run_folder.alone(folder):
            if (begun := folder / "form.json").exists():
                _refuse_other_form(begun, form)
            write_json(begun, {"form": dataclasses.asdict(form)})
            write_json(path, train(form, training._replace(checkpoint=folder / "latest.weights.h5")))
    if folder.exists():
        shutil.rmtree(folder)
    return json.loads(path.read_text())


def _refuse_other_form(path: pathlib.Path, form: Form) -> None:
    made, wanted = {**_jsonable(type(form)("")), **json.loads(path.read_text())["form"]}, _jsonable(form)
    names = sorted((made.keys() | wanted.keys()) - {"title"})
    if differing := [name for name in names if made.get(name) != wanted.get(name)]:
        changes = ", ".join(f"{name}={made.get(name)!r}, not {wanted.get(name)!r}" for name in differing)
        stale = path.parent if path.name == "form.json" else path
        raise OtherFormError(f"{path} is of another form: {changes}. Remove {stale}, and it is made again.")


def _jsonable(form: Form) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(form)))


def fit(form: Form, training: Training, build: Callable[[Any], keras.Model]) -> dict[str, Any]:
    """A training, and its measurement.

    Args:
        form: `Form`.
        training: `Training`.
        build: from the form to its network with new weights, wrapped or not.

    Returns:
        A dictionary that JSON can hold.

    Raises:
        NotPreparedError: the data set is not there.
    """
    # The code that is loaded, whatever is checked out when it ends.
    made_with = versions()
    seed, epochs, test, checkpoint = training
    keras.utils.set_random_seed(seed)
    num_validation = 0 if test else data_sets.NUM_VALIDATION
    data = data_sets.load("mnist", _BATCH_SIZE, seed, num_validation=num_validation, shuffle=form.shuffle)
    model = build(form)
    rate = learning_rates.dropping(form.learning_rate, Schedule(epochs).drops, (0.1, 0.01), len(data.train))
    model.compile(
        CoupledDecaySGD(rate, momentum=0.9, l2=form.l2, global_clipnorm=form.global_clipnorm),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    done = restore(model, checkpoint, len(data.train)) if checkpoint else 0
    keepers = [data.callback, *([Checkpoint(checkpoint)] if checkpoint else [])]
    model.fit(data.train, initial_epoch=done, epochs=epochs, callbacks=keepers, verbose=0)
    return {
        "form": dataclasses.asdict(form),
        "seed": seed,
        "epochs": epochs,
        "versions": made_with,
        "measured_on": "test" if test else "validation",
        **measure(model, data.test if test else data.validation),
    }
