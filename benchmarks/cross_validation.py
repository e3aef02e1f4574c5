"""Does AMM help on a small table? Cross-validation of the breast-cancer cells of `helps`, with all patients measured.

    python -m benchmarks.cross_validation
    python -m benchmarks.cross_validation --cells=breast-cancer --seeds=0

needs no prepared data set: scikit-learn ships this one. The cells of `benchmarks/helps` measure 150 or 119 patients,
and one of them is 0.7 or 0.8 points. Here the 569 patients are divided into 5 folds, each is measured by a network
that was trained on the others, and the figures of a seed are those of all patients. Both ways of training, plain and
with AMM, are compared once more with smoothed labels.

Each record is a file of its own, so that a run which was stopped goes on. At the end, all records are shown as a table.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold

from . import recorded_trainings
from .helps import tables
from .helps.arms import ARMS, compile_model
from .helps.cells import CELLS
from .helps.data import CellData, patients
from .helps.measuring import in_brief, measure
from .helps.trainings import fit, new_network
from .helps.verdicts import Summary, judge, summarize

CELLS_OF_TABLES = tuple(name for name, cell in CELLS.items() if cell.data == "breast_cancer")
_SMOOTHED = "-smoothed"
COMPARED = (("plain", "amm"), (f"plain{_SMOOTHED}", f"amm{_SMOOTHED}"))
NUM_FOLDS = 5
# Of the robust accuracy, in deviations of the features: about half of plain training's median margin.
_RADIUS = 1.0


def main(argv: list[str]) -> None:
    recorded_trainings.require_known("cells", flags.FLAGS.cells, CELLS_OF_TABLES)
    choices = {
        "cell": flags.FLAGS.cells,
        "arm": list(itertools.chain(*COMPARED)),
        "fold": [str(fold) for fold in range(NUM_FOLDS)],
    }
    print(table(recorded_trainings.make(argv, choices, train_and_measure, in_brief)))


def train_and_measure(cell: str, arm: str, fold: str, seed: int) -> dict[str, Any]:
    """Train one arm of a cell on all folds but one, and measure all patients of that one."""
    divided = fold_of(int(fold))
    network = new_network(CELLS[cell], divided, seed)
    smoothing = ARMS["label-smoothing"].settings if arm.endswith(_SMOOTHED) else {}
    arm = arm.removesuffix(_SMOOTHED)
    settings = {**ARMS[arm].settings, **smoothing}
    model = ARMS[arm].wrap(network, settings, float("nan"))
    compile_model(model, CELLS[cell], settings)
    return {
        **fit(model, divided.train, CELLS[cell]),
        **measure(network, divided.train, divided.measured, _RADIUS, len(divided.measured)),
    }


def fold_of(fold: int) -> CellData:
    """The patients of the other folds to train on and those of this one to measure, by the former's standard scores."""
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=0).split(*load_breast_cancer(return_X_y=True))
    return CellData(*patients(*list(folds)[fold]), num_classes=2)


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """A line for each cell whose seeds have all folds, as Markdown."""
    measured = ("error, plain → AMM", "mean margin", "ratio", "signed mean margin", "robust accuracy")
    rows = []
    for arms, cell in itertools.product(COMPARED, CELLS_OF_TABLES):
        by_seed = [_of_seeds(records, cell, arm) for arm in arms]
        if seeds := sorted(set(by_seed[0]) & set(by_seed[1])):
            title = f"`{cell}`" + (", labels smoothed" if arms[0].endswith(_SMOOTHED) else "")
            rows.append(_row(title, *(summarize([of_seed[seed] for seed in seeds]) for of_seed in by_seed)))
    return tables.table(["cell", *measured, "seeds", "verdict"], rows)


def _of_seeds(records: Sequence[Mapping[str, Any]], cell: str, arm: str) -> dict[int, dict[str, Any]]:
    """What each seed with all its folds found, over all patients."""
    chosen = [record for record in records if (record["cell"], record["arm"]) == (cell, arm)]
    seeds = {seed: [record for record in chosen if record["seed"] == seed] for seed in {r["seed"] for r in chosen}}
    return {seed: pooled(folds) for seed, folds in seeds.items() if len(folds) == NUM_FOLDS}


def pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record of all patients: shares and means of the folds weighted by their patients."""
    sizes = [fold["images"] for fold in folds]
    averaged = {
        name: float(np.average([fold[name] for fold in folds], weights=sizes))
        for name, value in folds[0].items()
        if isinstance(value, float)
    }
    return {**folds[0], **averaged, "images": sum(sizes)}


def _row(title: str, plain: Summary, amm: Summary) -> list[str]:
    both = (plain, amm)
    errors, margins, signed, robust = (
        " → ".join(texts)
        for texts in (
            [tables.error(summary) for summary in both],
            [f"{summary.margin:.3f}" for summary in both],
            [f"{summary.signed_margin:.3f}" for summary in both],
            [f"{summary.robust_accuracy:.1%}" for summary in both],
        )
    )
    grown = tables.margin_ratio(plain, amm)
    return [title, errors, margins, grown, signed, robust, f"{plain.seeds}", str(judge(plain, amm))]


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_list("cells", list(CELLS_OF_TABLES), "Cells of the benchmark `helps`, of breast cancer.")
    recorded_trainings.define_flags("results/cross_validation")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
