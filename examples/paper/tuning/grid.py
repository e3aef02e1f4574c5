"""The settings that a search has tried and their results: sorted, stored, printed and drawn."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from ..training.run_folder import LATER_SETTINGS, LOCATION_SETTINGS


class Grid(NamedTuple):
    """The values of each setting.

    Attributes:
        strength: floats, of lambda.
        c: floats.
        d: floats.
    """

    strength: Sequence[float]
    c: Sequence[float]
    d: Sequence[float]


class Row(NamedTuple):
    """One setting and its result.

    Attributes:
        strength: float, lambda.
        c: float.
        d: float.
        error_percent: float, mean held-out error over the seeds; None where it failed.
        margin_mean: float, mean held-out margin over the seeds; None where it failed.
        failure: str, the error message; None where there was none.
    """

    strength: float
    c: float
    d: float
    error_percent: float | None = None
    margin_mean: float | None = None
    failure: str | None = None


def rank(row: Row) -> tuple[Any, ...]:
    """What to sort by, so that the best comes first and what failed last."""
    # KerasTuner does not keep the order of its trials: equal results are sorted by their settings.
    result = (True, 0.0, 0.0) if row.failure else (False, row.error_percent, -row.margin_mean)
    return (*result, row.strength, row.c, row.d)


def rows_beyond(grid: Grid, path: pathlib.Path, settings: dict[str, Any], seeds: Sequence[int]) -> list[Row]:
    """The rows of earlier searches in the same file that are not part of a grid.

    Args:
        grid: `Grid`.
        path: path of `grid.json`, which may not exist.
        settings: what the trainings have in common; where the data are does not matter.
        seeds: ints, with each of which a setting is trained.

    Returns:
        `Row`s; none of searches with other settings or seeds.
    """
    if not path.exists():
        return []
    before = json.loads(path.read_text())
    theirs = {**LATER_SETTINGS, **before["settings"]}
    same = all(theirs.get(name) == settings[name] for name in settings.keys() - set(LOCATION_SETTINGS))
    if not same or before["seeds"] != seeds:
        return []
    rows = (Row(**row) for row in before["rows"])
    return [row for row in rows if not all(getattr(row, name) in getattr(grid, name) for name in Grid._fields)]


def table(rows: Sequence[Row]) -> str:
    """The grid as text.

    Args:
        rows: `Row`s.

    Returns:
        String, a line per setting.
    """
    lines = [f"{'lambda':>8} {'c':>6} {'d':>6} {'held-out error':>15} {'margin':>8}"]
    for row in rows:
        end = f"failed: {row.failure}" if row.failure else f"{row.error_percent:>14.2f}% {row.margin_mean:>8.3f}"
        lines.append(f"{row.strength:>8g} {row.c:>6g} {row.d:>6g} {end}")
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> plt.Figure:
    """The held-out error over lambda and c, one panel per d; in each cell the margin below the error.

    Args:
        rows: `Row`s, the best first, which is framed. What they leave out of a full grid is grey.

    Returns:
        Matplotlib figure.
    """
    strengths, cs, ds = (sorted({getattr(row, name) for row in rows}) for name in Grid._fields)
    errors = np.full((len(ds), len(strengths), len(cs)), np.nan)
    index = {row: (ds.index(row.d), strengths.index(row.strength), cs.index(row.c)) for row in rows}
    for row in rows:
        errors[index[row]] = np.nan if row.failure else row.error_percent
    figure, panels = plt.subplots(
        1,
        len(ds),
        figsize=(1.5 + len(ds) * max(2.6, 0.6 + 1.1 * len(cs)), 1.4 + 0.8 * len(strengths)),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    low, high = (np.nanmin(errors), np.nanmax(errors)) if np.isfinite(errors).any() else (0.0, 1.0)
    for panel, d, values in zip(panels[0], ds, errors, strict=True):
        shown = panel.imshow(values, cmap="viridis_r", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        panel.set(title=f"d = {d:g}", xlabel="c", xticks=range(len(cs)), yticks=range(len(strengths)))
        panel.set_xticklabels([f"{c:g}" for c in cs])
        panel.set_yticklabels([f"{strength:g}" for strength in strengths])
        panel.set_facecolor("lightgrey")
    panels[0][0].set_ylabel("λ")
    figure.colorbar(shown, ax=panels[0].tolist(), label="held-out error, %")
    for place, row in enumerate(rows):
        panel, y, x = index[row]
        text = "failed" if row.failure else f"{row.error_percent:.2f}%\nmargin {row.margin_mean:.2f}"
        is_dark = not row.failure and row.error_percent > (low + high) / 2
        panels[0][panel].text(x, y, text, ha="center", va="center", fontsize=8, color="white" if is_dark else "black")
        if not place and not row.failure:
            frame = plt.Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fill=False, edgecolor="red", linewidth=2.5)
            panels[0][panel].add_patch(frame)
    return figure
