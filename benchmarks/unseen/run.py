"""Trains every problem plainly and with the default of `keras_amm.wrap`, and measures both.

    TFDS_DATA_DIR=path/of/prepared/data python -m benchmarks.unseen.run
    python -m benchmarks.unseen.run --problems=digits,wine --seeds=0

needs MNIST, Fashion-MNIST and CIFAR-10 prepared by tensorflow-datasets, and scikit-learn. Each record is a file of its
own with both trainings of a problem and a seed, so that a run which was stopped goes on. At the end, all records are
shown as a table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from absl import app, flags

import keras_amm
from benchmarks import recorded_trainings
from benchmarks.helps import tables
from benchmarks.helps.data import CellData
from benchmarks.helps.measuring import measure
from benchmarks.helps.training_clock import TrainingClock
from benchmarks.helps.trainings import start_anew
from benchmarks.helps.verdicts import Summary, judge, summarize

from . import networks
from .problems import PROBLEMS, Problem

NUM_ATTACKED = 500


def main(argv: list[str]) -> None:
    recorded_trainings.require_known("problems", flags.FLAGS.problems, PROBLEMS)
    records = recorded_trainings.make(argv, {"problem": flags.FLAGS.problems}, train_and_measure, in_brief)
    print(f"{counts(records)}\n\n{table(records)}")


def train_and_measure(problem: str, seed: int) -> dict[str, Any]:
    """Train a problem both ways from the same weights and in the same order; what is measured of each."""
    images = PROBLEMS[problem].data()
    plain = _one(PROBLEMS[problem], images, seed, with_amm=False)
    amm = _one(PROBLEMS[problem], images, seed, with_amm=True, radius=plain["robust_radius"])
    return {"training_images": len(images.train), "plain": plain, "amm": amm}


def _one(problem: Problem, images: CellData, seed: int, with_amm: bool, radius: float | None = None) -> dict[str, Any]:
    start_anew(seed)
    network = networks.build(problem.features, images.train.x.shape[1:], images.num_classes)
    model = keras_amm.wrap(network) if with_amm else network
    steps = problem.epochs * -(-len(images.train) // problem.batch_size)
    model.compile(problem.optimizer(steps), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    clock = TrainingClock(problem.epochs)
    model.fit(*images.train, batch_size=problem.batch_size, epochs=problem.epochs, callbacks=[clock], verbose=0)
    return {
        "epochs": clock.epochs,
        "processor_seconds": clock.processor_seconds,
        **measure(network, images.train, images.measured, radius, NUM_ATTACKED),
    }


def in_brief(record: Mapping[str, Any]) -> str:
    """What was measured, in a few words."""
    plain, amm = record["plain"], record["amm"]
    return (
        f"error {plain['error_percent']:.2f}% → {amm['error_percent']:.2f}%, "
        f"margin {plain['margin']:.3g} → {amm['margin']:.3g}"
    )


def counts(records: Sequence[Mapping[str, Any]]) -> str:
    """In how many of the problems that have records AMM is better, in a sentence."""
    pairs = [_summaries(found) for found in _by_problem(records).values()]
    judged = [judge(plain, amm) for plain, amm in pairs]
    better, failing = sum(each.is_better for each in judged), sum(bool(each.failures) for each in judged)
    return (
        f"**Of {len(pairs)} problems AMM has fewer errors in {sum(amm.error < plain.error for plain, amm in pairs)}, "
        f"a larger mean margin in {sum(amm.margin > plain.margin for plain, amm in pairs)}, and a higher robust "
        f"accuracy in {sum(amm.robust_accuracy > plain.robust_accuracy for plain, amm in pairs)}. It is better in "
        f"{better}, holds in {len(pairs) - better - failing} more, and fails in {failing}.**"
    )


def _by_problem(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The records of each problem that has any, in the order of the problems."""
    of_each = {name: [record for record in records if record["problem"] == name] for name in PROBLEMS}
    return {name: found for name, found in of_each.items() if found}


def _summaries(found: Sequence[Mapping[str, Any]]) -> tuple[Summary, Summary]:
    """Plain training's and AMM's, over the seeds of a problem."""
    return summarize([record["plain"] for record in found]), summarize([record["amm"] for record in found])


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """A line for each problem that has records, as Markdown."""
    header = ("data", "network", "optimizer, batch", "images, epochs", "error, plain → AMM", "margin", "ratio")
    rows = []
    for name, found in _by_problem(records).items():
        problem, (plain, amm) = PROBLEMS[name], _summaries(found)
        data, network, optimizer = problem.shown
        rows.append(
            [
                data,
                network,
                f"{optimizer}, {problem.batch_size}",
                f"{found[0]['training_images']:,}, {problem.epochs}",
                f"{tables.error(plain)} → {tables.error(amm)}",
                f"{plain.margin:.3g} → {amm.margin:.3g}",
                tables.margin_ratio(plain, amm),
                f"{plain.robust_accuracy:.0%} → {amm.robust_accuracy:.0%}",
                f"{len(found)}",
                str(judge(plain, amm)),
            ]
        )
    return tables.table([*header, "robust accuracy", "seeds", "verdict"], rows)


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_list("problems", list(PROBLEMS), "Problems.")
    recorded_trainings.define_flags("results/unseen")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
