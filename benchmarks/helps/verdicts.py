"""Arms of a cell compared over their seeds, by the criteria that AMM has to meet."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .records import Key, Record

# Of the mean margin, beside plain training's.
LEAST_GAIN, LARGE_GAIN = 1.1, 1.3
# A margin that the attack did not find is not judged.
LEAST_SUCCESS = 0.99
# Training accuracy from which on plain training fits its training set.
FITTED = 0.995
# The part of the predictions from which on a classifier counts as constant, where no label is as frequent.
CONSTANT = 0.95


@dataclass(frozen=True)
class Summary:
    """An arm's records of several seeds; errors in percent, means over the seeds.

    Attributes:
        seeds: int, how many.
        error: float.
        deviation: float, of the errors over the seeds; None of one seed.
        resolution: float, the error that one image makes.
        margin: float, the mean margin, a wrong image's being 0.
        signed_margin: float, the signed mean margin.
        robust_accuracy: float, at half of plain training's median margin.
        training_accuracy: float.
        attack_success: float, the smallest of the seeds.
        predicted_share: float, the most frequent prediction's, the largest of the seeds.
        label_share: float, the most frequent label's.
        epochs: float.
    """

    seeds: int
    error: float
    deviation: float | None
    resolution: float
    margin: float
    signed_margin: float
    robust_accuracy: float
    training_accuracy: float
    attack_success: float
    predicted_share: float
    label_share: float
    epochs: float

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100.0 - self.error

    @property
    def is_constant(self) -> bool:
        """Whether the classifier of a seed predicts one class for nearly everything."""
        return self.predicted_share >= CONSTANT > self.label_share


@dataclass(frozen=True)
class Results:
    """The records of held-out images, or of test images.

    Attributes:
        records: by key.
        test: bool, which of the two.
    """

    records: Mapping[Key, Record]
    test: bool = False

    def of(self, cell: str, *arms: str) -> tuple[Summary, ...] | None:
        """The arms' summaries over the seeds that all of them have; None if there is no such seed."""
        of_arms = [
            {
                key.seed: record
                for key, record in self.records.items()
                if key[:2] == (cell, arm) and key.test is self.test
            }
            for arm in arms
        ]
        seeds = sorted(set.intersection(*(set(records) for records in of_arms)))
        return tuple(summarize([records[seed] for seed in seeds]) for records in of_arms) if seeds else None


def summarize(records: Sequence[Record]) -> Summary:
    """The summary of an arm's records, one or more."""
    errors = _column(records, "error_percent")
    return Summary(
        seeds=len(records),
        error=statistics.mean(errors),
        deviation=statistics.stdev(errors) if len(errors) > 1 else None,
        resolution=100.0 / min(_column(records, "images")),
        margin=statistics.mean(_column(records, "margin")),
        signed_margin=statistics.mean(_column(records, "signed_mean")),
        robust_accuracy=statistics.mean(_column(records, "robust_accuracy")),
        training_accuracy=statistics.mean(_column(records, "training_accuracy")),
        attack_success=min(_column(records, "attack_success")),
        predicted_share=max(_column(records, "largest_predicted_share")),
        label_share=max(_column(records, "largest_label_share")),
        epochs=statistics.mean(_column(records, "epochs")),
    )


def _column(records: Sequence[Record], name: str) -> list[float]:
    return [record[name] for record in records]


@dataclass(frozen=True)
class Verdict:
    """Whether an arm meets the criteria beside plain training, seeds alike.

    Attributes:
        failures: what is worse than it may be: "error", "margin", "attack" or "constant".
        is_better: whether there are fewer errors or a margin at least 1.3 times as large, and no failure.
    """

    failures: tuple[str, ...]
    is_better: bool

    def __str__(self) -> str:
        if self.failures:
            return f"**fails: {', '.join(self.failures)}**"
        return "better" if self.is_better else "holds"


def judge(plain: Summary, arm: Summary) -> Verdict:
    """The verdict on an arm: no more errors than plain training's and their deviation, and 1.1 times its margin."""
    # Of few images, the seeds' errors may be equal by chance: less than an image is no difference then.
    allowed = max(plain.deviation, plain.resolution) if plain.deviation is not None else 0.0
    failures = {
        "error": arm.error > plain.error + allowed,
        "margin": not gains(plain.margin, arm.margin, LEAST_GAIN),
        "attack": min(plain.attack_success, arm.attack_success) < LEAST_SUCCESS,
        "constant": arm.is_constant,
    }
    found = tuple(name for name, fails in failures.items() if fails)
    better = arm.error < plain.error or gains(plain.margin, arm.margin, LARGE_GAIN)
    return Verdict(found, better and not found)


def gains(before: float, after: float, factor: float) -> bool:
    """Whether a margin has grown to `factor` times."""
    return after >= factor * before or math.isclose(after, factor * before)


def ratio(before: float, after: float) -> float | None:
    """How many times a margin has become; None where plain training's is not above 0."""
    return after / before if before > 0 else None
