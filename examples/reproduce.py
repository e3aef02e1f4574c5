"""The paper's findings on toy data and MNIST, reproduced: Sections 3.3 and 4.3, and Table 3's rows of 4.4.1.

    python examples/reproduce.py table1 --seeds=5 --epochs=100
    python examples/reproduce.py table1 table2 figure3 --seeds=1 --schedule=short
    python examples/reproduce.py figure5 --arms=reference,min-exp --values=40000,55000 --schedule=short
    python examples/reproduce.py all --list
    python examples/reproduce.py report --schedule=short

Name figure1, table1, figure2, table2, figure3, table3, methods, figure4, figure5, or all. methods are Table 3's rows of
the methods that the paper compares with, which took their numbers from papers of their own; here they are trained by
the paper's protocol (`paper/methods`). Five more are not in the paper, and part of all: others (further methods that
it names: Jacobian regularisation, MMA, Deep Defense), batches (the same batches in every epoch, as in the authors'
published code), rates (six times the learning rate), exchanged (AVG+LIN with the c of MIN+LIN and the reverse, and
MIN+LIN with its c and d exchanged) and choices (all wrong images counted under MIN, and the squared hinge as the loss).
`--arms`, `--values` and `--networks` choose among the trainings of what is named; figure1 has none of them.

A run is a process of `examples/mnist.py` or `examples/toy2d.py` and leaves one JSON record in `--records`. There are as
many at a time as cores, or one if there is a GPU. A run that several tables share is made once, except that LiuNet's
trainings with AMM begin with a reference of their own. Starting again skips what is finished, and continues what was
stopped from its last epoch. `report` makes a page with tables and figures of all records.

The default is the paper's protocol: 100 epochs, five seeds. `--schedule=short` has 30 epochs, with drops of the
learning rate in proportion, and MIN searches only 30 correct images of a batch of 100 in full: those that a first-order
estimate says are nearest. MNIST as prepared by tensorflow-datasets is needed (`TFDS_DATA_DIR`), or a network to fetch
it.
"""

import os
import pathlib
import signal

from absl import app, flags

from paper.command_line import numbers
from paper.reproduce.execution import Executor
from paper.reproduce.experiments import EXPERIMENTS
from paper.reproduce.planning import SCHEDULES, TOY, Schedule, plan
from paper.reproduce.records import RecordError, read_records
from paper.training.table_2 import LEAST_EPOCHS

_SEEDS = flags.DEFINE_integer("seeds", 5, "runs of each cell, with seeds from 0", lower_bound=1)
_SCHEDULE = flags.DEFINE_enum("schedule", "paper", list(SCHEDULES), "100 epochs, or 30 with screening=0.3")
_EPOCHS = flags.DEFINE_integer("epochs", None, "epochs, if not the schedule's", lower_bound=LEAST_EPOCHS)
_SCREENING = flags.DEFINE_float(
    "screening", None, "fraction of a batch that MIN searches in full, if not the schedule's; 1 for all", 0.01, 1.0
)
_ARMS = flags.DEFINE_list("arms", [], "only these ways of training, such as reference,min-exp")
_VALUES = flags.DEFINE_list("values", [], "only these numbers of images of figure4, or of labels of figure5")
_NETWORKS = flags.DEFINE_list("networks", [], "only these networks of table3")
_JOBS = flags.DEFINE_integer("jobs", None, "runs at a time; by default one per core, or one on a GPU", lower_bound=1)
_LIST = flags.DEFINE_bool("list", False, "only list the runs, finished or missing")
_RECORDS = flags.DEFINE_string("records", "runs/reproduce/records", "folder of the finished runs' JSON files")
_WORK = flags.DEFINE_string("work", "runs/reproduce/work", "folder of checkpoints, logs and models")
_PAGE = flags.DEFINE_string("page", "runs/reproduce/report/mnist_findings.md", "Markdown file that `report` writes")
_IMAGES = flags.DEFINE_string("images", "runs/reproduce/report/images", "folder of the figures that `report` draws")

NAMES = (TOY, *EXPERIMENTS)


def main(argv: list[str]) -> None:
    """Run, list or report."""
    names = argv[1:]
    if unknown := [name for name in names if name not in (*NAMES, "all", "report")]:
        raise app.UsageError(f"Unknown: {', '.join(unknown)}. Expected of {', '.join(NAMES)}, all, report.")
    if not names:
        raise app.UsageError(f"Say what to reproduce: {', '.join(NAMES)} or all; or report.")
    if _LIST.value and "report" in names:
        raise app.UsageError("--list goes without report.")
    if names == ["report"] and (_ARMS.value or _VALUES.value or _NETWORKS.value):
        raise app.UsageError("report shows all records: --arms, --values and --networks choose what is run.")
    schedule = SCHEDULES[_SCHEDULE.value]
    if _EPOCHS.value:
        schedule = schedule._replace(epochs=_EPOCHS.value)
    if _SCREENING.value:
        schedule = schedule._replace(screening=_SCREENING.value if _SCREENING.value < 1 else None)
    records = pathlib.Path(_RECORDS.value)
    wanted = [name for name in (NAMES if "all" in names else names) if name != "report"]
    try:
        failure = _run(wanted, schedule, records) if wanted else None
        if "report" in names:
            if not records.is_dir():
                raise app.UsageError(f"There is no folder {records}: name that of the records with --records.")
            # Imported here: it loads matplotlib, for which `--list` and error messages need not wait.
            from paper.reproduce import report

            report.write(records, pathlib.Path(_PAGE.value), pathlib.Path(_IMAGES.value), schedule)
    except (RecordError, OSError) as error:
        raise SystemExit(str(error)) from error
    if failure:
        raise SystemExit(failure)


def _run(names: list[str], schedule: Schedule, records: pathlib.Path) -> str | None:
    """Execute what is missing, or list it; returns a message if runs failed."""
    try:
        values = numbers("values", _VALUES.value, int)
        some = {"arms": _ARMS.value, "values": values, "networks": _NETWORKS.value}
        runs = plan(names, _SEEDS.value, schedule, **some)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    finished = read_records(records, runs)
    if _LIST.value:
        for run in runs:
            print("finished" if run.name in finished else "missing ", run.name)
        return None
    if all(run.name in finished for run in runs):
        print(f"{len(runs)} runs, all of them finished")
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = _JOBS.value or (1 if _has_gpu() else cores)
    _end_runs_with_the_runner()
    try:
        failed = Executor(records, pathlib.Path(_WORK.value), jobs, cores).run_all(runs)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. Start again to continue.") from None
    return f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}" if failed else None


def _end_runs_with_the_runner() -> None:
    """Have a signal that ends this process end its runs too, which would go on without it."""
    for ending in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # A signal that is ignored, as under nohup, stays ignored.
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, signal.default_int_handler)


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


if __name__ == "__main__":
    app.run(main)
