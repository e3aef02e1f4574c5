"""Pictures of margin reports: histograms, and accuracy over the radius of an attack."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from keras_amm.arguments import require_whole
from keras_amm.plots.style import COLORS, LINE_STYLES, figure_of, literal, panels
from keras_amm.typing import TensorLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RIGHT, _WRONG = COLORS[0], COLORS[2]
# The axis is as many times as high as the highest bar, so that the legend stands above all bars.
_ROOM = 1.4


@runtime_checkable
class ReportLike(Protocol):
    """What the pictures need of a `keras_amm.MarginReport`, all arrays being of [n]."""

    norms: np.ndarray
    signed: np.ndarray
    model_name: str

    @property
    def correct(self) -> np.ndarray:
        """Boolean array, whether the prediction is the label."""

    def robust_accuracy(self, radii: TensorLike) -> np.ndarray:
        """Float array of the shape of `radii`, the fraction of images correctly classified beyond each."""


def margin_histogram(
    reports: ReportLike | Iterable[ReportLike] | Mapping[str, ReportLike],
    axes: "Axes | Sequence[Axes] | None" = None,
    *,
    bins: int = 60,
) -> "Figure":
    """Draw the distribution of signed margins, one panel per report, on equal scales.

    Correctly classified and misclassified images are apart, and a dashed line
    marks the mean of what is drawn, which is the "signed mean" of a report's summary
    where every attack succeeded. It equals the mean margin that the paper reports where
    no image is misclassified. Infinite margins are left out.

    Args:
        reports: a `MarginReport`; several, which are called by their model's
            name, and numbered where that is the same; or a mapping from names to reports.
        axes: as many matplotlib axes as there are reports; None for a new figure.
        bins: int, the number of bars over the range of all reports.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: these are no reports, or no axes.
        ValueError: there is no report, there are not as many axes, or `bins` is not positive.

    Example:
    >>> report = keras_amm.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.2],
    ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
    >>> figure = keras_amm.plots.margin_histogram({"before": report, "after": report})
    >>> [panel.get_title() for panel in figure.axes]
    ['before', 'after']

    Reference: margins as in Section 4.4 of the paper.
    """
    require_whole("bins", bins, 1)
    named = _by_name(reports)
    new = axes is None
    _require_axes(axes)
    drawn = panels(axes, len(named), 4.6, 3.8, share=True)
    edges = _edges([report.signed for _, report in named], bins)
    tallest = 0.0
    for panel, (name, report) in zip(drawn, named, strict=True):
        tallest = max(tallest, _draw_histogram(panel, report, edges))
        panel.set_title(literal(name if len(named) > 1 else f"Margins of {name}"))
        panel.set_xlabel(f"signed margin ({_norm_of(report)})\nmisclassified: minus the distance to the label")
        if not new or panel is drawn[0]:
            panel.set_ylabel("images")
        panel.legend(loc="upper right", frameon=False)
    for panel in drawn:
        panel.set_ylim(0.0, _ROOM * tallest)
    return figure_of(drawn[0])


def robust_accuracy(
    reports: ReportLike | Iterable[ReportLike] | Mapping[str, ReportLike],
    axes: "Axes | None" = None,
    *,
    radii: TensorLike | None = None,
) -> "Figure":
    """Draw how accuracy falls with the radius of an attack, one line per report.

    See `MarginReport.robust_accuracy`: the true robust accuracy tends to be lower.

    Args:
        reports: as for `margin_histogram`.
        axes: matplotlib axes; None for a new figure.
        radii: float array [n], radii in the norm and the units of the margins; None for
            all up to the largest finite margin.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: these are no reports, or no axes.
        ValueError: there is no report, or a radius is negative.

    Example:
    >>> report = keras_amm.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.2],
    ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
    >>> figure = keras_amm.plots.robust_accuracy(report)
    >>> figure.axes[0].get_ylabel()
    'correct beyond the radius (%)'
    """
    named = _by_name(reports)
    _require_axes(axes)
    (panel,) = panels(axes, 1, 5.0, 3.8)
    if radii is None:
        norms = np.concatenate([report.norms for _, report in named])
        radii = np.linspace(0.0, 1.02 * float(np.max(norms[np.isfinite(norms)], initial=1e-6)), 400)
    for i, (name, report) in enumerate(named):
        panel.plot(
            radii,
            100.0 * report.robust_accuracy(radii),
            color=COLORS[i % len(COLORS)],
            linestyle=LINE_STYLES[i % len(LINE_STYLES)],
            linewidth=1.8,
            label=literal(name),
        )
    panel.set_xlim(float(np.min(radii)), float(np.max(radii)))
    panel.set_ylim(0.0, 101.0)
    norms_named = " or ".join(sorted({_norm_of(report) for _, report in named}))
    panel.set_xlabel(f"{norms_named} radius, in the units of the images")
    panel.set_ylabel("correct beyond the radius (%)")
    panel.set_title("Robust accuracy, by the attack")
    panel.grid(alpha=0.3)
    if len(named) > 1:
        # The curves fall, so the upper right corner is empty.
        panel.legend(loc="upper right", frameon=False)
    return figure_of(panel)


def _norm_of(report: ReportLike) -> str:
    """The norm of all distances, which objects other than reports need not name."""
    return str(getattr(report, "norm_name", "l2"))


def _by_name(reports: Any) -> list[tuple[str, ReportLike]]:
    if isinstance(reports, Mapping):
        named = [*reports.items()]
    else:
        several = [*reports] if isinstance(reports, Iterable) else [reports]
        named = _numbered([(getattr(report, "model_name", "") or "the model", report) for report in several])
    if not named:
        raise ValueError("Expected one margin report or more. Received: none.")
    for _, report in named:
        if not isinstance(report, ReportLike):
            raise TypeError(
                "Expected a MarginReport, several, or a mapping from names to them. "
                f"Received: {report!r} of type {type(report).__name__}."
            )
    return named


def _require_axes(axes: Any) -> None:
    """Refuse a second report where axes belong."""
    given: list[Any] = [] if axes is None else [*np.ravel(axes)]
    if any(not hasattr(panel, "get_figure") for panel in given):
        raise TypeError(
            "`axes` must be matplotlib axes or None. Several reports go together in a list, or in a dictionary "
            f"from names to reports. Received: axes={axes!r} of type {type(axes).__name__}."
        )


def _numbered(named: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The same reports, where several of one name are numbered."""
    all_of_name, seen = Counter(name for name, _ in named), Counter[str]()
    for i, (name, report) in enumerate(named):
        seen[name] += 1
        if all_of_name[name] > 1:
            named[i] = f"{name} ({seen[name]})", report
    return named


def _edges(signed: list[np.ndarray], bins: int) -> list[float]:
    values = np.concatenate(signed)
    finite = values[np.isfinite(values)]
    low, high = float(np.min(finite, initial=0.0)), float(np.max(finite, initial=0.0))
    # Zero is an edge, so that no bar counts both correct and misclassified images.
    width = max(high - low, 1e-6) / bins
    edges: list[float] = (width * np.arange(np.floor(low / width), max(np.ceil(high / width), 1.0) + 1.0)).tolist()
    return edges


def _draw_histogram(panel: "Axes", report: ReportLike, edges: list[float]) -> float:
    """Draw the bars of a report; gives the height of the highest."""
    finite, tallest = np.isfinite(report.signed), 1.0
    for mask, name, color in ((report.correct, "correct", _RIGHT), (~report.correct, "misclassified", _WRONG)):
        if np.any(mask & finite):
            heights, _, _ = panel.hist(
                report.signed[mask & finite], bins=edges, color=color, label=f"{name} ({np.sum(mask & finite):,})"
            )
            tallest = max(tallest, float(np.max(heights)))
    if np.any(finite):
        mean = float(np.mean(report.signed[finite], dtype="float64"))
        panel.axvline(
            mean,
            ymax=1.0 / _ROOM,
            color="black",
            linestyle="--",
            linewidth=1.0,
            label=f"mean {mean:.3f}",
        )
    return tallest
