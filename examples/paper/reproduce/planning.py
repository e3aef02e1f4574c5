"""The single runs that tables and figures are made of: their names and command lines."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from ..training.table_2 import DROP_TO, proportional_drops
from .experiments import ALL_IMAGES, EXPERIMENTS, Cell, Experiment

EXAMPLES = pathlib.Path(__file__).resolve().parents[2]


class Schedule(NamedTuple):
    """How long and how thoroughly every cell is trained.

    Attributes:
        epochs: int.
        screening: float, how many correct samples trainings with MIN search in full, as a fraction of the batch; None
            for all.
    """

    epochs: int
    screening: float | None = None


# The paper's protocol, and one for small machines.
SCHEDULES: Mapping[str, Schedule] = MappingProxyType({"paper": Schedule(100), "short": Schedule(30, screening=0.3)})

TOY = "figure1"
# Which misclassified points of Figure 1 count under MIN: by the rule of the authors' code; and all, by Section 3.3.1,
# whose conditions are for correct samples only.
TOY_RULES: Mapping[str, str | None] = MappingProxyType({TOY: None, f"{TOY}.all-wrong": "all"})


@dataclass(frozen=True)
class Run:
    """One process that leaves a `result.json` in its folder.

    Attributes:
        name: names its folder and its record.
        command: the script in `examples/` and its flags; `{folder}` stands for the run's folder.
    """

    name: str
    command: tuple[str, ...]

    def arguments(self, folder: str | pathlib.Path, examples: str | pathlib.Path = EXAMPLES) -> list[str]:
        """The command line after `python`; `examples` is where the scripts are."""
        script, *flags = self.command
        return [str(pathlib.Path(examples) / script), *(flag.format(folder=folder) for flag in flags)]

    @property
    def command_line(self) -> str:
        """As one would type it in a clone, whatever folders this machine has."""
        return " ".join(["python", *self.arguments(f"runs/{self.name}", "examples")])


def screening_of(cell: Cell, schedule: Schedule) -> float | None:
    """The screening of a cell's training, which only MIN has.

    Args:
        cell: `Cell`.
        schedule: `Schedule`.

    Returns:
        A float or None.

    Example:
    >>> screening_of(EXPERIMENTS["table1"].cells[-1], SCHEDULES["short"])
    0.3
    """
    return schedule.screening if cell.arm.settings.get("aggregation") == "min" else None


def run_name(cell: Cell, schedule: Schedule, seed: int) -> str:
    """The name of a training: the same in whatever table it appears.

    Args:
        cell: `Cell`.
        schedule: `Schedule`.
        seed: int.

    Returns:
        A string.

    Example:
    >>> run_name(EXPERIMENTS["table1"].cells[-1], Schedule(30, screening=0.3), seed=0)
    'mlp-800.min-exp.screening-0.3.epochs-30.seed-0'
    """
    screening = screening_of(cell, schedule)
    return ".".join(
        [*cell.key, *([f"screening-{screening}"] if screening else []), f"epochs-{schedule.epochs}", f"seed-{seed}"]
    )


def training(cell: Cell, schedule: Schedule, seed: int) -> Run:
    """The training of a cell with one seed.

    Args:
        cell: `Cell`.
        schedule: `Schedule`.
        seed: int.

    Returns:
        A `Run`.

    Example:
    >>> " ".join(training(EXPERIMENTS["table1"].cells[0], Schedule(30), seed=1).command)
    'mnist.py --model=mlp-800 --noamm --epochs=30 --drop_at=15,24 --drop_to=0.1,0.01 --seed=1 --out={folder}'
    """
    settings: dict[str, Any] = {"model": cell.network, **cell.arm.settings}
    if cell.num_train != ALL_IMAGES:
        settings["num_train"] = cell.num_train
    if cell.num_random_labels:
        settings["num_random_labels"] = cell.num_random_labels
    if screening := screening_of(cell, schedule):
        settings["screening"] = screening
    drop_at, drop_to = (",".join(map(str, drops)) for drops in (proportional_drops(schedule.epochs), DROP_TO))
    settings |= {"epochs": schedule.epochs, "drop_at": drop_at, "drop_to": drop_to, "seed": seed, "out": "{folder}"}
    return Run(run_name(cell, schedule, seed), ("mnist.py", *(_flag(name, value) for name, value in settings.items())))


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value}"


def toy(seed: int, rule: str = TOY) -> Run:
    """The run of Figure 1, all its panels, with one seed and one of `TOY_RULES`."""
    misclassified = TOY_RULES[rule]
    flags = [f"--misclassified={misclassified}"] if misclassified else []
    outputs = ("--out={folder}/figure1.png", "--json={folder}/result.json")
    return Run(f"{rule}.seed-{seed}", ("toy2d.py", f"--seed={seed}", *flags, *outputs))


def select(
    names: Iterable[str], arms: Sequence[str] = (), values: Sequence[int] = (), networks: Sequence[str] = ()
) -> list[Cell]:
    """The cells of tables and figures, all or some.

    Args:
        names: keys of `EXPERIMENTS`.
        arms: names of arms; none for all.
        values: places on the axis of a sweep; none for all.
        networks: names of architectures; none for all.

    Returns:
        List of `Cell`.

    Raises:
        ValueError: something wanted is not part of these tables and figures, or no cell has all that is wanted.

    Example:
    >>> [cell.num_train for cell in select(["table1", "figure4"], arms=["masked"], values=[5000])]
    [5000]
    """
    places = [(EXPERIMENTS[name], cell) for name in names for cell in EXPERIMENTS[name].cells]
    kinds: Sequence[tuple[str, Sequence[Any], Callable[[Experiment, Cell], Any]]] = (
        ("arms", arms, lambda experiment, cell: cell.arm.name),
        ("values", values, lambda experiment, cell: experiment.value(cell)),
        ("networks", networks, lambda experiment, cell: cell.network),
    )
    available = {kind: dict.fromkeys(value_of(*place) for place in places) for kind, _, value_of in kinds}
    for kind, wanted, value_of in kinds:
        if unknown := [item for item in wanted if item not in available[kind]]:
            known = [item for item in available[kind] if item is not None]
            message = f"The {kind} to choose from are {known}" if known else f"There are no {kind} to choose from"
            raise ValueError(f"{message}. Received: {unknown}.")
        places = [place for place in places if not wanted or value_of(*place) in wanted]
    if not places and any((arms, values, networks)):
        raise ValueError(
            f"There is no place that has all of it. Received: arms={[*arms]}, values={[*values]}, "
            f"networks={[*networks]}."
        )
    return [cell for _, cell in places]


def plan(names: Iterable[str], seeds: int, schedule: Schedule, **choice: Any) -> list[Run]:
    """All runs of tables and figures, each once: first one seed of everything, then the next.

    Args:
        names: keys of `EXPERIMENTS`, or "figure1", which is left out where only some cells are wanted.
        seeds: int, how many.
        schedule: `Schedule` of each training.
        **choice: arguments of `select`.

    Returns:
        List of `Run`.

    Raises:
        ValueError: see `select`.
    """
    names = list(names)
    cells = select((name for name in names if name != TOY), **choice)
    runs: dict[str, Run] = {}
    for seed in range(seeds):
        if TOY in names and not any(choice.values()):
            runs |= {run.name: run for run in (toy(seed, rule) for rule in TOY_RULES)}
        for cell in cells:
            run = training(cell, schedule, seed)
            runs.setdefault(run.name, run)
    return list(runs.values())
