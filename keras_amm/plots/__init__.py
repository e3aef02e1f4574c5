"""Pictures of margins, drawn by matplotlib, which is imported when the first is drawn.

Every function returns the matplotlib figure and opens no window: save it by
`figure.savefig(path)`, or let a notebook show it. Those that draw into one panel
or a row of panels also take the `axes` to draw into.
"""

from keras_amm.plots.curves import training_curves
from keras_amm.plots.perturbations import perturbation_grid
from keras_amm.plots.regions import boundary_cross_section, decision_regions
from keras_amm.plots.reports import margin_histogram, robust_accuracy

__all__ = [
    "boundary_cross_section",
    "decision_regions",
    "margin_histogram",
    "perturbation_grid",
    "robust_accuracy",
    "training_curves",
]
