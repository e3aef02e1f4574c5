"""Two attacks on the same images of the same model, and what their disagreement says of the model's gradients."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from keras_amm.report import MarginReport

# Attacks succeed nearly always; norms of attacks on one image seldom differ by so much, nor for so many images.
_NEARLY_ALWAYS, _FAR, _OFTEN = 0.95, 2.0, 0.05


class AttackComparison(NamedTuple):
    """How two attacks agree on n images, of which m were reached by both.

    Attributes:
        ratio: float array [m], the second attack's norms by the first's, before the data bound them.
        success_rates: the two attacks' shares of the images whose prediction changed.
        far_apart: the share of the m images of which one norm is over twice the other; 0 if m is 0.
        too_far: the share of the n images of which the data showed a boundary not half as far as the attack's, the
            larger one of the two attacks'.
    """

    ratio: np.ndarray
    success_rates: tuple[float, float]
    far_apart: float
    too_far: float

    @property
    def findings(self) -> list[str]:
        """What speaks for masked gradients, in words: nothing where the attacks agree and both succeed."""
        findings = [
            f"the {which} attack succeeds for {rate:.1%} of the images only"
            for which, rate in zip(("first", "second"), self.success_rates, strict=True)
            if rate < _NEARLY_ALWAYS
        ]
        if self.far_apart > _OFTEN:
            findings.append(f"for {self.far_apart:.1%} of the images, one attack goes over twice as far as the other")
        if self.too_far > _OFTEN:
            findings.append(
                f"for {self.too_far:.1%} of the images, an attack goes over twice as far as to the boundary on the way "
                "to another image"
            )
        return findings

    @property
    def disagree(self) -> bool:
        """Whether the attacks disagree, fail, or go past what the data show: then margins are not to be trusted."""
        return bool(self.findings)

    def __str__(self) -> str:
        """The comparison in a few lines."""
        quartiles = "no image was reached by both"
        if self.ratio.size:
            low, middle, high = np.quantile(self.ratio, (0.25, 0.5, 0.75))
            quartiles = f"second / first norm: quartiles {low:.3f}, {middle:.3f}, {high:.3f}"
        if not self.findings:
            return f"The two attacks agree ({quartiles}). Both need gradients, so this is no proof."
        lines = "".join(f"\n  - {finding}" for finding in self.findings)
        return f"The two attacks disagree, or fail: do not trust these margins ({quartiles}).{lines}\n{_WHY}"


_WHY = (
    "The network may mask its gradients (a saturated softmax or sigmoid within it, rounding, a step function), or the "
    "attacks need more steps. Try an attack without gradients."
)


def compare(first: "MarginReport", second: "MarginReport") -> AttackComparison:
    """Compare two reports of the same images; a ValueError if they are not, or in different norms, units or bounds."""
    require_comparable(first, second)
    one, other = (report.attack_norms.astype("float64") for report in (first, second))
    both = first.success & second.success & np.isfinite(one) & np.isfinite(other) & (one > 0.0)
    ratio = other[both] / one[both]
    far = (ratio > _FAR) | (ratio < 1.0 / _FAR)
    return AttackComparison(
        ratio=ratio,
        success_rates=(first.success_rate, second.success_rate),
        far_apart=float(np.mean(far)) if far.size else 0.0,
        too_far=max(float(np.mean(report.attack_norms > _FAR * report.norms)) for report in (first, second)),
    )


def require_comparable(first: "MarginReport", second: "MarginReport") -> None:
    """Raise a ValueError unless two reports are of the same images and the same model, in one norm, unit and bounds."""
    same = len(first) == len(second) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("labels", "predictions")
    )
    measured_in, other = (_measured_in(report) for report in (first, second))
    if not same or measured_in != other:
        raise ValueError(
            "Attacks are compared on the same images, of the same model, in the same norm, units and bounds. Received: "
            f"reports of {len(first)} and {len(second)} images, in {measured_in} and {other}, with labels and "
            f"predictions that are {'equal' if same else 'not equal'}."
        )


def _measured_in(report: "MarginReport") -> str:
    """Norm, units and bounds of the distances, in words."""
    deviation, bounds = (report.attack.get(name) for name in ("deviation", "bounds"))
    words = [report.norm_name, "" if deviation is None else f"deviation={deviation}"]
    return ", ".join(filter(None, [*words, "" if bounds is None else f"bounds={bounds}"]))
