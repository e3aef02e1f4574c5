"""Trainings of a benchmark that leave a record each, so that a run which was stopped goes on."""

import itertools
import json
import pathlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import threads
from examples.paper.command_line import numbers
from examples.paper.data.sources import NotPreparedError
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions

# The flags belong to the program that defines them, whose --help shows them.
flags.disclaim_key_flags()


def define_flags(records: str) -> None:
    """Define `--seeds`, `--records` and `--threads`; `records` is the default folder."""
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of initial weights and order.")
    flags.DEFINE_string("records", records, "Folder of the records.")
    threads.define_flag()


def require_known(flag: str, names: Sequence[str], known: Collection[str]) -> None:
    """End the program with a message if the flag has a name that is not known."""
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"Expected of {', '.join(known)}. Received: --{flag}={','.join(unknown)}.")


def make(
    argv: Sequence[str],
    choices: Mapping[str, Sequence[str]],
    train: Callable[..., Mapping[str, Any]],
    shown: Callable[[Mapping[str, Any]], str],
) -> list[dict[str, Any]]:
    """Make the records of all combinations of the choices that are missing, seed by seed.

    Args:
        argv: what the program was called with; it takes flags alone.
        choices: by what a record calls it, such as `"cell"`, the values to combine.
        train: takes one value of each choice and `seed` by name, and returns what is measured.
        shown: what is printed of a new record.

    Returns:
        The records in the folder, new and old.
    """
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
    # TensorFlow warns of many compiled functions; here each network has its own on purpose.
    tf.get_logger().setLevel("ERROR")
    threads.set_as_told()
    folder = pathlib.Path(flags.FLAGS.records)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for seed, *values in itertools.product(numbers("seeds", flags.FLAGS.seeds, int), *choices.values()):
            chosen = {**dict(zip(choices, values, strict=True)), "seed": seed}
            path = folder / f"{'.'.join(values)}.seed-{seed}.json"
            if not path.exists():
                made_with = versions()
                found = train(**chosen)
                write_json(path, {**chosen, "versions": made_with, "threads": flags.FLAGS.threads, **found})
                print(f"{path.stem}: {shown(found)}", flush=True)
    except (NotPreparedError, ValueError) as error:
        sys.exit(str(error))
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def mean(values: Sequence[float], digits: int, unit: str = "") -> str:
    """The mean of what several seeds gave and their standard deviation, which one seed has not."""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{unit}{deviation}"
