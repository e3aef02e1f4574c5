"""Is MIN+LIN a hard-margin support vector machine, as Section 3.3.4 of the paper has it?

    python examples/hard_margin_svm.py --out=hard_margin_svm.png

A linear classifier minimises the MIN+LIN penalty and weight decay alone, all points in each batch. It starts from the
boundary at right angles to the line through the classes' centres. Of two normal clouds and of the points of Figure 1
the boundary that it finds is compared with that of scikit-learn's `SVC`. It has the machine's direction, but not its
bias: MIN counts the nearest point of each class, and with LIN what moving the boundary takes from one of these two
distances it gives to the other. Three repairs are shown: to count the nearest point of all only, to put the boundary
into the middle afterwards, and EXP in place of LIN.
"""

import pathlib

import numpy as np
from absl import app, flags

from paper.figure_files import save_figure
from paper.json_files import write_json
from paper.reproduce import hard_margin, toy_boundaries
from paper.training.run_records import versions

flags.DEFINE_integer("seed", 0, "seed of the points")
flags.DEFINE_integer("steps", 1000, "steps of gradient descent", lower_bound=1)
flags.DEFINE_float("offset", 0.5, "how far from the middle the boundary is at the start, as a part of half the gap")
flags.DEFINE_string("out", "hard_margin_svm.png", "where to save the figure")
flags.DEFINE_string("json", None, "where to save the numbers")
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Train, print the table, save the figure."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    made_with = versions()
    points = {"two clouds": hard_margin.clouds(FLAGS.seed), "Figure 1": toy_boundaries.sample(FLAGS.seed)[0]}
    record: dict[str, dict[str, dict[str, float]]] = {}
    lines = {}
    for title, each in points.items():
        half = sum(hard_margin.nearest(hard_margin.start(each, 0.0), each)) / 2
        lines[title] = hard_margin.compare(each, FLAGS.offset * half, FLAGS.steps)
        widest = lines[title]["SVC"]
        record[title] = {name: measured(line, widest, each) for name, line in lines[title].items()}
        print(f"\n{title:36}{'margin':>10}{'recentred':>11}{'angle to the SVC':>18}")
        for name, row in record[title].items():
            print(f"{name:36}{row['margin']:>10.5f}{row['recentred']:>11.5f}{row['angle']:>17.4f}°")
    if FLAGS.json:
        settings = {"seed": FLAGS.seed, "steps": FLAGS.steps, "offset": FLAGS.offset, "versions": made_with}
        write_json(pathlib.Path(FLAGS.json), {**settings, "boundaries": record})
    offsets = np.linspace(-1.2, 1.2, 241)
    print(f"\nSaved {save_figure(hard_margin.draw(points['two clouds'], lines['two clouds'], offsets), FLAGS.out)}")


def measured(
    line: toy_boundaries.Line, machine: toy_boundaries.Line, points: toy_boundaries.Points
) -> dict[str, float]:
    """The margin, that of the parallel boundary in the middle, and the angle to the machine's boundary in degrees."""
    near, far = hard_margin.nearest(line, points)
    angle = line.angle - machine.angle
    return {"margin": min(near, far), "recentred": (near + far) / 2, "angle": abs((angle + 180) % 360 - 180)}


if __name__ == "__main__":
    app.run(main)
