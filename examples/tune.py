"""Choose lambda, c and d on held-out training images: a grid of trainings, searched by KerasTuner.

    python examples/tune.py --data_set=mnist --model=mlp-800 --strengths=8,32 --cs=1,2 --ds=1 --epochs=20

trains with every setting on all but 5,000 training images, and measures error and margin on these 5,000. The test
images are not used. The best setting has the lowest held-out error, and of equal errors the larger margin. With
`--seeds=0,1,2` each setting is trained with each seed, and the means over the seeds are compared. Networks that Table 2
fine-tunes start from one reference per seed, or from `--init_from`.

A search that was stopped continues where it was, even within a training. Another grid in the same `--out` takes over
the trainings that are there and adds its own: the best setting is that of all searches with the same settings and
seeds. A training that fails, or whose loss becomes NaN, is listed as failed, and tried again when the search is started
again. The results are printed and written to `grid.json` and `grid.png`; the trainings are in `trials`.
"""

import pathlib
import sys

from absl import app, flags

from paper.command_line import numbers
from paper.data.sources import NotPreparedError, prepared_builder
from paper.training.settings import define_flags, given_flags, resolve
from paper.training.table_2 import TABLE_2
from paper.tuning.grid import Grid, table
from paper.tuning.grid_search import search

_NETWORKS = list(dict.fromkeys(name for networks in TABLE_2.values() for name in networks))
# Flags of a training that a search has not: the grid sets some, and it always trains for margin and holds images out.
_WITHOUT = ("strength", "c", "d", "penalty", "seed", "amm", "validation", "resume", "method", "method_settings")


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    data_set, out = flags.FLAGS.data_set, pathlib.Path(flags.FLAGS.out)
    networks = list(TABLE_2[data_set])
    if not flags.FLAGS["model"].present:
        flags.FLAGS.model = networks[0]
    if flags.FLAGS.model not in networks:
        raise app.UsageError(f"--data_set={data_set} goes with --model={'|'.join(networks)}.")
    try:
        prepared_builder(data_set, flags.FLAGS.data_dir)
    except NotPreparedError as error:
        raise SystemExit(str(error)) from error
    given = {**given_flags(), "penalty": "paper", "amm": True, "validation": True}
    try:
        settings = resolve(data_set, given)
        grid = Grid(*(numbers(name, flags.FLAGS[name].value, float) for name in ("strengths", "cs", "ds")))
        seeds = numbers("seeds", flags.FLAGS.seeds, int)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    rows = search(settings, grid, seeds, out)
    print(
        f"\n{settings['model']} on {data_set}, {settings['epochs']} epochs:\n{table(rows)}\n\nPlotted in {out}/grid.png"
    )
    if rows[0].failure:
        sys.exit("Every training failed.")


if __name__ == "__main__":
    flags.DEFINE_enum("data_set", "mnist", list(TABLE_2), "the data set")
    flags.DEFINE_list("strengths", ["8", "32"], "values of lambda")
    flags.DEFINE_list("cs", ["1", "2"], "values of c")
    flags.DEFINE_list("ds", ["1"], "values of d")
    flags.DEFINE_list("seeds", ["0"], "each setting is trained with each of these")
    define_flags(_NETWORKS, "runs/tune", without=_WITHOUT)
    app.run(_main)
