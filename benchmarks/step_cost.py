"""What a training step costs with AMM: time and peak memory beside a plain `fit` step.

    pip install absl-py psutil
    python -m benchmarks.step_cost --network=mlp-800 --network=lenet-mnist
    python -m benchmarks.step_cost --compare=searches --memory=false
    python -m benchmarks.step_cost --amm_epochs=6 --jit_compile --variants=default --memory=false
    python -m benchmarks.step_cost --digits=4,9 --memory=false
    python -m benchmarks.step_cost --all --out=runs/step_cost.jsonl

needs no data but the MNIST images in the repository. All variants start from the same weights, plainly trained for a
few epochs and, with `--amm_epochs`, with the default penalty for some more, and take turns in one process, five steps
each. So other programs on the machine slow all of them, and a ratio is taken within one round. Steps are those of
`fit`: the function that it runs per batch, with loss, metrics, clipping and SGD with momentum. The first step traces
and, under XLA, compiles. Peak memory is the largest resident set of a process of its own per variant. "Steps alone"
subtracts what the process held before its first training step. What is left includes the traced function itself, which
does not grow with the batch. `--json` keeps the times of all rounds.

`--all` measures every architecture of the examples in another way, on few steps of real images: see
`every_architecture.py`. It needs `pip install -e ".[examples]"`, CIFAR-10 and about an hour. What was measured is
left in `--out`, and a second call measures the rest.
"""

import functools
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf
from absl import app, flags

import keras_amm
from examples.paper import architectures
from examples.paper.data import arrays
from examples.paper.json_files import append_json
from examples.paper.training.run_records import versions

from .memory import peak_bytes
from .networks import MNIST

_NETWORK = flags.DEFINE_multi_enum("network", ["mlp-800", "lenet-mnist"], MNIST, "Networks.")
_DIGITS = flags.DEFINE_list(
    "digits", list("0123456789"), "The digits to tell apart, two or more; --all has its own data."
)
_ROUNDS = flags.DEFINE_integer("rounds", 40, "Rounds in which every variant takes its turn.", lower_bound=2)
_STEPS = flags.DEFINE_integer("steps", 5, "Steps of a turn.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("train_epochs", 8, "Epochs of plain training before the measurement.", lower_bound=0)
_AMM_EPOCHS = flags.DEFINE_integer("amm_epochs", 0, "Epochs of training with AMM after these.", lower_bound=0)
_BATCH_SIZE = flags.DEFINE_integer("batch", 100, "Images per batch.", lower_bound=1)
_JIT = flags.DEFINE_bool("jit_compile", False, "Compile the steps with XLA.")
_MEMORY = flags.DEFINE_bool("memory", True, "Whether to measure peak memory too.")
_MEMORY_OF = flags.DEFINE_string("memory_of", None, "Print the peak memory of this one variant, and nothing else.")
_VARIANTS = flags.DEFINE_list("variants", [], "These variants and the plain step only, whole.")
_ALL = flags.DEFINE_bool("all", False, "Measure every architecture instead, on a few steps.")
_COMPARE = flags.DEFINE_enum("compare", "settings", ["settings", "searches"], "What the variants differ in.")
_ONLY = flags.DEFINE_list("only", [], "With --all: these networks only.")
_JSON = flags.DEFINE_string("json", None, "A file of records, to which those of the run are added; not with --all.")
_OUT = flags.DEFINE_string("out", "runs/step_cost.jsonl", "With --all: a line of JSON per network; those are skipped.")

# Makes the regularizer of a variant; None for a plain step.
Regularizer = Callable[[], keras_amm.MarginRegularizer] | None


def _paper(row: str = "min-exp", **changes: Any) -> Regularizer:
    return functools.partial(keras_amm.MarginRegularizer.from_paper, row, **changes)


VARIANTS: dict[str, Regularizer] = {
    "plain": None,
    "default": keras_amm.MarginRegularizer,
    "default, rough": functools.partial(keras_amm.MarginRegularizer, search="rough"),
    "default, exact": functools.partial(keras_amm.MarginRegularizer, search="exact"),
    # The same step, traced again: what differs is chance.
    "default, once more": keras_amm.MarginRegularizer,
    "paper, exact": _paper(),
    "paper, ranks": _paper(search="ranks"),
    "paper, ranks, boundary": _paper(search="ranks", gradient="boundary"),
    "AVG+EXP, cheap": _paper("avg-exp", search="cheap"),
    "AVG+EXP, cheap, boundary": _paper("avg-exp", search="cheap", gradient="boundary"),
    "AVG+EXP, rough, boundary": _paper("avg-exp", search="rough", gradient="boundary"),
}
SEARCHES: dict[str, Regularizer] = {
    "plain": None,
    **{
        f"{gradient}, {name}": _paper(gradient=gradient, **search)
        for gradient in ("unrolled", "boundary")
        for name, search in (
            ("exact", {}),
            ("screening 0.3", {"screening": 0.3}),
            ("ranks", {"search": "ranks"}),
            ("cheap", {"search": "cheap"}),
            ("rough", {"search": "rough"}),
        )
    },
}


def main(argv: list[str]) -> None:
    del argv
    if _ALL.value:
        # Imported here: only this needs the packages that read data sets.
        from . import every_architecture

        sys.exit(0 if every_architecture.run(pathlib.Path(_OUT.value), _ONLY.value) else 1)
    # TensorFlow warns of many compiled functions; here each variant has one on purpose.
    tf.get_logger().setLevel("ERROR")
    images = images_of_digits()
    for network in _NETWORK.value:
        trained = train(network, images)
        if _MEMORY_OF.value:
            print(*peak_memory(trained, images, variants()[_MEMORY_OF.value]))
            continue
        steppers = {name: stepper(trained, images, regularizer) for name, regularizer in variants().items()}
        table = alternate({name: step for name, (step, _) in steppers.items()})
        memory = {name: memory_in_its_own_process(network, name) for name in variants()} if _MEMORY.value else {}
        first_steps = {name: first for name, (_, first) in steppers.items()}
        report(network, table, first_steps, memory)
        parts = {} if _VARIANTS.value else where_the_time_goes(trained, images)
        save(network, table, first_steps, memory, parts)


def digits_to_tell_apart() -> list[int]:
    """The chosen digits, each once, in order."""
    digits = sorted({int(digit) for digit in _DIGITS.value if digit.isdecimal()})
    if len(digits) < 2 or len(digits) < len(_DIGITS.value) or digits[-1] > 9:
        raise app.UsageError(f"--digits must be two or more different digits. Received: {','.join(_DIGITS.value)}.")
    return digits


def images_of_digits() -> arrays.Images:
    """The training images in the repository of the chosen digits, which are classes 0, 1 and so on."""
    images, _ = arrays.load_subset()
    digits = digits_to_tell_apart()
    chosen = np.isin(images.y, digits)
    return arrays.Images(images.x[chosen], np.searchsorted(digits, images.y[chosen]).astype("int32"))


def variants() -> dict[str, Regularizer]:
    """What makes the regularizer, by the variant's name."""
    chosen = SEARCHES if _COMPARE.value == "searches" else VARIANTS
    if unknown := set(_VARIANTS.value) - set(chosen):
        raise app.UsageError(f"--variants must be among {list(chosen)}. Received: {sorted(unknown)}.")
    return {name: made for name, made in chosen.items() if name in ("plain", *_VARIANTS.value) or not _VARIANTS.value}


def train(network: str, images: Any) -> keras.Model:
    """A network in the middle of its training."""
    keras.utils.set_random_seed(0)
    model = architectures.build(network, num_classes=len(digits_to_tell_apart()))
    compiled(model, learning_rate=5e-3)
    data = {"x": images.x, "y": images.y, "batch_size": _BATCH_SIZE.value, "verbose": 0}
    model.fit(**data, epochs=_EPOCHS.value)
    if _AMM_EPOCHS.value:
        compiled(keras_amm.wrap(model), learning_rate=5e-3).fit(**data, epochs=_AMM_EPOCHS.value)
    return model


def compiled(model: keras.Model, learning_rate: float) -> keras.Model:
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=0.9, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=_JIT.value,
    )
    return model


def stepper(trained: keras.Model, images: Any, regularizer: Regularizer) -> tuple[Callable[[], Any], float]:
    """One step of `fit` on a copy of the network, and the seconds that the first one took.

    The learning rate is too small to change the network's state.
    """
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    if regularizer is not None:
        model = keras_amm.wrap(model, regularizer=regularizer())
    compiled(model, learning_rate=1e-6)
    model.optimizer.build(model.trainable_variables)  # as `fit` does, before it traces
    model.make_train_function()
    run, batches = model.train_function, endless(images)
    start = time.perf_counter()
    run(batches)
    first = time.perf_counter() - start
    for _ in range(2):
        run(batches)
    return lambda: run(batches), first


def endless(images: Any) -> Iterator[Any]:
    data = tf.data.Dataset.from_tensor_slices((images.x, images.y))
    return iter(data.batch(_BATCH_SIZE.value, drop_remainder=True).repeat().prefetch(2))


def alternate(steps: dict[str, Callable[[], Any]]) -> dict[str, np.ndarray]:
    """Milliseconds per step, [rounds] for each variant."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS.value):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(_STEPS.value):
                step()
            times[name].append((time.perf_counter() - start) / _STEPS.value * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def peak_memory(trained: keras.Model, images: Any, regularizer: Regularizer) -> tuple[int, int]:
    """Resident bytes before the first step of this variant, and at the peak of fifty."""
    before = psutil.Process().memory_info().rss
    step, _ = stepper(trained, images, regularizer)
    for _ in range(50):
        step()
    return before, peak_bytes()


def memory_in_its_own_process(network: str, variant: str) -> tuple[int, int]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.step_cost",
        f"--network={network}",
        f"--memory_of={variant}",
        f"--batch={_BATCH_SIZE.value}",
        f"--compare={_COMPARE.value}",
        f"--digits={','.join(_DIGITS.value)}",
        f"--jit_compile={_JIT.value}",
    ]
    # One epoch is enough here: memory does not depend on how well it is trained.
    output = subprocess.run([*command, "--train_epochs=1"], check=True, capture_output=True, text=True).stdout
    before, peak = output.split()[-2:]
    return int(before), int(peak)


def report(
    network: str, times: dict[str, np.ndarray], first: dict[str, float], memory: dict[str, tuple[int, int]]
) -> None:
    print(
        f"\n{network}, {len(digits_to_tell_apart())} classes, batch {_BATCH_SIZE.value}, "
        f"{_ROUNDS.value} rounds of {_STEPS.value} steps; median [quartiles]\n"
    )
    columns = [
        "step",
        "ms",
        "/ plain",
        "first step, s",
        *(["peak memory, MB", "/ plain", "steps alone, / plain"] if memory else []),
    ]
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join(["---"] * len(columns)) + " |")
    for name, values in times.items():
        low, middle, high = np.percentile(values / times["plain"], [25, 50, 75])
        cells = [name, f"{np.median(values):.1f}", f"{middle:.2f} [{low:.2f}, {high:.2f}]", f"{first[name]:.1f}"]
        if memory:
            (plain_before, plain), (before, peak) = memory["plain"], memory[name]
            alone = (peak - before) / (plain - plain_before)
            cells += [f"{peak / 1e6:.0f}", f"{peak / plain:.2f}", f"{alone:.2f}"]
        print("| " + " | ".join(cells) + " |")


def save(
    network: str,
    times: dict[str, np.ndarray],
    first: dict[str, float],
    memory: dict[str, tuple[int, int]],
    parts: dict[str, np.ndarray],
) -> None:
    """Add to the file of `--json` what was measured of a network, and how."""
    if not _JSON.value:
        return
    record = {
        "network": network,
        "digits": digits_to_tell_apart(),
        "batch": _BATCH_SIZE.value,
        "steps": _STEPS.value,
        "train_epochs": _EPOCHS.value,
        "amm_epochs": _AMM_EPOCHS.value,
        "jit_compile": _JIT.value,
        "versions": versions(),
        "first_step_seconds": {name: round(seconds, 2) for name, seconds in first.items()},
        "milliseconds": {name: np.round(values, 3).tolist() for name, values in times.items()},
        "milliseconds_of_parts": {name: np.round(values, 3).tolist() for name, values in parts.items()},
        "resident_bytes_before_and_at_peak": memory,
    }
    append_json(pathlib.Path(_JSON.value), record)


def where_the_time_goes(trained: keras.Model, images: Any) -> dict[str, np.ndarray]:
    """Milliseconds of the parts of an AMM step, each alone, [rounds] for each."""
    x, y = (tf.constant(array[: _BATCH_SIZE.value]) for array in (images.x, images.y))
    classifier = keras_amm.network.classifier.Classifier(trained)

    def search(max_iterations: int, screening: float | None = None) -> Any:
        attack = keras_amm.DeepFool(max_iterations)
        clean = keras_amm.search.linearisation.clean_pass(classifier, x)
        return attack.path(classifier, clean, y, screening=screening, keep_path=True)._replace(checks=[])

    path = tf.function(lambda: search(6), autograph=False)()
    selected = keras_amm.MarginRegularizer.from_paper("min-exp").select(path.norm, y, path.correct, path.success)
    index = tf.cast(tf.where(selected)[:, 0], tf.int32)
    rest = (index, tf.ones(tf.size(index)), trained.trainable_variables)

    def adjoint(with_curvature: bool) -> Any:
        return keras_amm.gradient.adjoint.differentiate(
            classifier, path, *rest, overshoot=keras_amm.DeepFool().overshoot, with_curvature=with_curvature
        )

    parts: dict[str, Callable[[], Any]] = {
        "forward pass": lambda: classifier(x),
        "search, first step": lambda: search(1),
        "search, all steps": lambda: search(6),
        "search, screening 0.3": lambda: search(6, 0.3),
        "unrolled gradient": lambda: adjoint(with_curvature=True),
        "masked gradient": lambda: adjoint(with_curvature=False),
        "boundary gradient": lambda: keras_amm.gradient.boundary.differentiate(classifier, path, *rest),
    }
    functions = {name: tf.function(part, autograph=False, jit_compile=_JIT.value) for name, part in parts.items()}
    for function in functions.values():
        function()
    print(f"\nWhere the time goes, {trained.name}, without the plain step; {len(index)} samples are differentiated:\n")
    print("| part | ms |\n| --- | --- |")
    times = alternate(functions)
    for name, values in times.items():
        print(f"| {name} | {np.median(values):.1f} |")
    return times


if __name__ == "__main__":
    app.run(main)
