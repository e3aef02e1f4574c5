"""Which trainings the benchmark has, in which order, and the making of their records."""

import gc
import pathlib
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from examples.paper.data.arrays import Images
from examples.paper.json_files import write_json
from examples.paper.training.run_records import digest, versions

from . import data, networks, records
from .arms import ARMS, RIVALS, compile_model
from .cells import CELLS, Cell
from .measuring import in_brief, measure
from .records import Key, Record
from .training_clock import TrainingClock

# Whose rivals train by the clock. Those of the others train for as many epochs, whatever else the machine does then.
FIRST_SEED = 0
# More than any training that stops by the clock has.
_ENDLESS = 10_000
_OF_TRAINING = ("epochs", "seconds", "processor_seconds")


def plan(cells: Sequence[str], arms: Sequence[str], seeds: Sequence[int], test: bool = False) -> list[Key]:
    """The trainings in their order: what is compared first, then other settings, then the rivals; by seed in each.

    Raises:
        ValueError: there is no such cell or arm.
    """
    for what, names, known in (("cells", cells, CELLS), ("arms", arms, ARMS)):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"Expected of {', '.join(known)}. Received: --{what}={','.join(unknown)}.")
    stages = (("plain", "amm"), ("paper", "rough", "hard", "hard-clipped"), RIVALS)
    return [
        Key(cell, arm, seed, test)
        for stage in stages
        for seed in seeds
        for cell in CELLS
        if cell in cells
        for arm in stage
        if arm in arms
    ]


def run(keys: Sequence[Key], folder: pathlib.Path, threads: int, weights: pathlib.Path | None = None) -> list[Key]:
    """Make the records that are missing; those that could not be made are returned, and do not affect the others.

    Args:
        keys: of the records.
        folder: of the records.
        threads: of TensorFlow.
        weights: the folder where trained weights are kept, for the same training to be measured on test images later.
            None to keep none: then it is trained once more.

    Raises:
        NotPreparedError: a data set is not there.
        RecordError: a record was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [key for key in keys if records.read(key, folder) is None]
    print(f"{len(keys)} trainings, {len(keys) - len(missing)} of them have a record", flush=True)
    left = []
    for number, key in enumerate(missing, 1):
        start = time.monotonic()
        try:
            outcome = _one(key, folder, threads, weights)
        except (ValueError, tf.errors.OpError):
            # A training that fails is a result too, but not one with figures.
            traceback.print_exc()
            outcome = None
        if outcome is None:
            left.append(key)
        shown = outcome or "no record"
        print(
            f"[{number}/{len(missing)}] {' '.join(_words(key))}: {shown}, {time.monotonic() - start:.0f} s", flush=True
        )
    return left


def _words(key: Key) -> Iterator[str]:
    yield from (key.cell, key.arm, f"seed {key.seed}")
    if key.test:
        yield "on test images"


def _one(key: Key, folder: pathlib.Path, threads: int, weights: pathlib.Path | None) -> str | None:
    """Make one record; what it says in a few words, or None if it needs records that are not there."""
    # The held-out records of the same seed tell the radius of attacks and how long a rival may train.
    others = {name: records.read(Key(key.cell, name, key.seed), folder) for name in _needed(key)}
    if absent := [name for name, record in others.items() if record is None]:
        print(f"{key.cell} {key.arm} needs a held-out record of {' and '.join(absent)} first.", flush=True)
        return None
    epochs, first_key = None, key._replace(seed=FIRST_SEED, test=False)
    if ARMS[key.arm].as_long_as and key != first_key:
        first = records.read(first_key, folder)
        if first is None:
            print(f"{key.cell} {key.arm} needs its held-out record of seed {FIRST_SEED} first.", flush=True)
            return None
        epochs = first["epochs"]
    record = {**train_and_measure(key, others, weights, epochs), "threads": threads}
    write_json(key.path(folder), record)
    return in_brief(record)


def _needed(key: Key) -> tuple[str, ...]:
    return ("plain", key.arm, *ARMS[key.arm].needs) if key.test else ARMS[key.arm].needs


def train_and_measure(
    key: Key, others: dict[str, Record], weights: pathlib.Path | None = None, epochs: int | None = None
) -> dict[str, Any]:
    """Train one arm of a cell, and measure it.

    Args:
        key: `Key`.
        others: the held-out records that it needs, by arm.
        weights: as in `run`.
        epochs: how many it trains; None for the cell's, or as many as the time allows.

    Returns:
        The record, but for the number of threads.
    """
    # Asked for now: another commit may be checked out by the time the training ends.
    made_with = versions()
    cell, arm = CELLS[key.cell], ARMS[key.arm]
    images = data.load(cell, key.test)
    network = new_network(cell, images, key.seed)
    margin = others["plain"]["margin_median"] if "plain" in others else None
    model = arm.wrap(network, arm.settings, margin)
    compile_model(model, cell, arm.settings)
    kept = key._replace(test=False).path(weights).with_suffix(".npz") if weights else None
    if key.test and kept and _load(network, kept, others[key.arm]):
        took = {name: others[key.arm][name] for name in _OF_TRAINING}
    else:
        limit = others[arm.as_long_as]["processor_seconds"] if arm.as_long_as and epochs is None else None
        took = fit(model, images.train, cell, limit, epochs)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, *network.get_weights())
    return {
        "settings": records.settings(key),
        "seed": key.seed,
        "measured_on": "test" if key.test else "held out",
        **took,
        "weights": digest(network),
        "training_images": len(images.train),
        "versions": made_with,
        **measure(network, *images[:2], None if margin is None else margin / 2, cell.num_attacked),
    }


def _load(network: keras.Model, path: pathlib.Path, record: Record) -> bool:
    """Load the weights that a record was made with; whether these are in the file."""
    if not path.exists():
        return False
    initial = network.get_weights()
    with np.load(path) as arrays:
        network.set_weights([*arrays.values()])
    if digest(network) == record.get("weights"):
        return True
    network.set_weights(initial)
    return False


def start_anew(seed: int) -> None:
    """Forget all that is left of earlier networks, and seed what follows."""
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(seed)


def new_network(cell: Cell, images: data.CellData, seed: int) -> keras.Model:
    """The cell's network with new weights, after all that is left of earlier ones has been forgotten."""
    start_anew(seed)
    return networks.build(cell.network, images.train.x.shape[1:], images.num_classes)


def fit(
    model: keras.Model, images: Images, cell: Cell, limit: float | None = None, epochs: int | None = None
) -> dict[str, Any]:
    """Train for so many epochs or the cell's, or with a limit for so many processor seconds; what a record says."""
    clock = TrainingClock(cell.epochs, limit)
    epochs = (epochs or cell.epochs) if limit is None else _ENDLESS
    model.fit(*images, batch_size=cell.batch_size, epochs=epochs, callbacks=[clock], verbose=0)
    return {name: getattr(clock, name) for name in _OF_TRAINING}
