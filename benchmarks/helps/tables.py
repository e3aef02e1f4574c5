"""The tables of the report, in Markdown. Arms are compared over the seeds that all of them have."""

from collections.abc import Sequence

from .arms import ARMS, RIVALS
from .cells import CELLS
from .verdicts import FITTED, Results, Summary, judge, ratio

NOT_RUN = "not run"
NUM_SEEDS = 3
DATA = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10 (JPEG)",
    "breast_cancer": "breast cancer",
}
NETWORKS = {
    "mlp-800": "MLP-800",
    "lenet": "LeNet",
    "mlp": "MLP",
    "cnn": "CNN",
    "cnn-bn": "CNN with BatchNormalization",
    "resnet": "residual network",
    "vit": "ViT",
}
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def verdicts(results: Results) -> str:
    """One line a cell: errors, margins and the verdict."""
    problem = ("cell", "data, network", "optimizer, batch", "images, epochs")
    result = ("error, plain → AMM", "margin", "ratio", "seeds", "verdict")
    return table([*problem, *result], [[f"`{name}`", *_problem(name), *_verdict(results, name)] for name in CELLS])


def _problem(name: str) -> list[str]:
    cell = CELLS[name]
    data = DATA[cell.data] + (f", classes {' and '.join(map(str, cell.classes))}" if cell.classes else "")
    if cell.thinned_out:
        data += f", a tenth of classes {cell.thinned_out[0]} to {cell.thinned_out[-1]}"
    images = f"{cell.num_train:,}, {cell.epochs}"
    return [f"{data}, {NETWORKS[cell.network]}", f"{OPTIMIZERS[cell.optimizer]}, {cell.batch_size}", images]


def _verdict(results: Results, cell: str) -> list[str]:
    pair = results.of(cell, "plain", "amm")
    if pair is None:
        return [NOT_RUN, "", "", "", NOT_RUN]
    plain, amm = pair
    errors, margins = f"{error(plain)} → {error(amm)}", f"{plain.margin:.3f} → {amm.margin:.3f}"
    return [errors, margins, margin_ratio(plain, amm), f"{amm.seeds}", str(judge(plain, amm))]


def error(summary: Summary) -> str:
    """The mean error and its deviation over the seeds, which one seed has not."""
    deviation = "" if summary.deviation is None else f" ± {summary.deviation:.2f}"
    return f"{summary.error:.2f}%{deviation}"


def margin_ratio(plain: Summary, other: Summary) -> str:
    """How many times plain training's mean margin another's is; "none" where plain training's is not above 0."""
    value = ratio(plain.margin, other.margin)
    return "none" if value is None else f"{value:.2f}"


def counts(results: Results) -> str:
    """The counts of the verdicts, in one paragraph."""
    pairs = [pair for cell in CELLS if (pair := results.of(cell, "plain", "amm"))]
    judged = [judge(*pair) for pair in pairs]
    better = sum(verdict.is_better for verdict in judged)
    failing = sum(bool(verdict.failures) for verdict in judged)
    sentences = [
        f"**Of {len(CELLS)} cells, {len(pairs)} have been run: AMM is better in {better}, holds in "
        f"{len(pairs) - better - failing} more, and fails in {failing}.**"
    ]
    if fitted := [pair for pair in pairs if pair[0].training_accuracy >= FITTED]:
        fewer = sum(amm.error < plain.error for plain, amm in fitted)
        sentences.append(
            f"Plain training fits its training set in {len(fitted)} of them; AMM has fewer errors in {fewer} of these."
        )
    if few := sum(amm.seeds < NUM_SEEDS for _, amm in pairs):
        sentences.append(f"Cells that have been run with fewer than {NUM_SEEDS} seeds: {few}.")
    return " ".join(sentences)


def details(results: Results) -> str:
    """Of plain training and AMM, what else is measured."""
    columns = (
        "signed mean margin",
        "robust accuracy",
        "attack success",
        "training accuracy",
        "most frequent prediction",
    )
    rows = []
    for cell in CELLS:
        if both := results.of(cell, "plain", "amm"):
            shown = (
                [f"{summary.signed_margin:.3f}" for summary in both],
                [f"{summary.robust_accuracy:.1%}" for summary in both],
                [f"{summary.attack_success:.1%}" for summary in both],
                [f"{summary.training_accuracy:.1%}" for summary in both],
                [f"{summary.predicted_share:.0%}" for summary in both],
            )
            rows.append([f"`{cell}`", *(" → ".join(values) for values in shown)])
    return table(["cell, plain → AMM", *columns], rows)


def beside(results: Results, arm: str, at_least: Sequence[str] = ()) -> str:
    """Plain training, AMM and another arm, in the cells that have been run and `at_least` these, which come first."""
    rows = []
    for cell in sorted(CELLS, key=lambda name: name not in at_least):
        if three := results.of(cell, "plain", "amm", arm):
            rows.append([f"`{cell}`", *(_entry(three[0], summary) for summary in three)])
        elif cell in at_least:
            rows.append([f"`{cell}`", NOT_RUN, "", ""])
    return table(["cell", "plain", "AMM", ARMS[arm].title], rows)


def rivals(results: Results) -> str:
    """Tables of the rivals, one line a cell; rivals with as many seeds share one, with AMM's results of these seeds."""
    with_seeds: dict[int, list[str]] = {}
    for arm in RIVALS:
        with_seeds.setdefault(_num_seeds(results, arm), []).append(arm)
    parts = []
    for number, arms in sorted(with_seeds.items(), reverse=True):
        titles = ", ".join(ARMS[arm].title for arm in arms)
        if number:
            parts += [f"With {number} {'seed' if number == 1 else 'seeds'}: {titles}.", _rivals_of_seeds(results, arms)]
        else:
            parts.append(f"{NOT_RUN.capitalize()}: {titles}.")
    return "\n\n".join(parts)


def _rivals_of_seeds(results: Results, arms: Sequence[str]) -> str:
    rows = []
    for cell in CELLS:
        if present := [each for arm in arms if (each := results.of(cell, "plain", "amm", arm))]:
            plain, amm, _ = present[0]
            rows.append([f"`{cell}`", _entry(plain, amm), *(_beside_amm(results, cell, arm) for arm in arms)])
    return table(["cell", *(ARMS[arm].title for arm in ("amm", *arms))], rows)


def _num_seeds(results: Results, arm: str) -> int:
    """How many seeds of a rival all cells have at least that have any; 0 if none has."""
    return min((three[0].seeds for cell in CELLS if (three := results.of(cell, "plain", "amm", arm))), default=0)


def _beside_amm(results: Results, cell: str, arm: str) -> str:
    three = results.of(cell, "plain", "amm", arm)
    if three is None:
        return NOT_RUN
    plain, amm, other = three
    entry = _entry(plain, other)
    return f"**{entry}**" if other.error < amm.error and other.margin >= amm.margin else entry


def _entry(plain: Summary, summary: Summary) -> str:
    return f"{summary.error:.2f}%, {margin_ratio(plain, summary)}, {summary.robust_accuracy:.0%}"


def where_rivals_are_better(results: Results) -> str:
    """In how many cells each rival is better than AMM."""
    rows = []
    for arm in RIVALS:
        pairs = [pair for cell in CELLS if (pair := results.of(cell, "amm", arm))]
        if not pairs:
            continue
        errors, margins, robust = (
            [_is_better(pair, name) for pair in pairs] for name in ("accuracy", "margin", "robust_accuracy")
        )
        both = [fewer and larger for fewer, larger in zip(errors, margins, strict=True)]
        seeds = _num_seeds(results, arm)
        figures = (seeds, len(pairs), *(sum(better) for better in (errors, margins, both, robust)))
        rows.append([ARMS[arm].title, *map(str, figures)])
    better = ("fewer errors", "larger margin", "both", "larger robust accuracy")
    return table(["better than AMM", "seeds", "cells", *better], rows)


def cells_of_better_rivals(results: Results) -> str:
    """Lists of the cells in which each rival has fewer errors, and of those in which it has larger margins."""
    lines = []
    for name, what in (("accuracy", "Fewer errors"), ("margin", "Larger margins")):
        of_arms = {
            ARMS[arm].title: ", ".join(
                f"`{cell}`" for cell in CELLS if (pair := results.of(cell, "amm", arm)) and _is_better(pair, name)
            )
            for arm in RIVALS
        }
        lines += [f"{what} than AMM:", "", *(f"- {title}: {cells}" for title, cells in of_arms.items() if cells), ""]
    return "\n".join(lines).strip()


def _is_better(pair: Sequence[Summary], name: str) -> bool:
    """Whether of AMM and a rival the second has more of this."""
    amm, rival = pair
    return getattr(rival, name) > getattr(amm, name)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, or that nothing of it has been run."""
    if not rows:
        return f"{NOT_RUN.capitalize()}."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"|{'|'.join(f' {text} ' if text else ' ' for text in line)}|" for line in lines)
