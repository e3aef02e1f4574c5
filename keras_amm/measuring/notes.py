"""What to say of a report whose margins mean less than they seem to."""

import warnings

import numpy as np

from keras_amm.attack import SHARED
from keras_amm.network.zero_gradients import advice_on_logits, have_no_gradient, warning_of_zero_gradients
from keras_amm.report import MarginReport

# A quarter of the images or more, whose attack went over twice as far as it had to.
_OFTEN, _FAR = 0.25, 2.0


def notes_on(report: MarginReport) -> list[str]:
    """Sentences on a report: half of its images or more have no gradient, or an attack goes much too far for many."""
    stuck = int(np.sum(have_no_gradient(report.norms, report.success)))
    far = int(np.sum(report.attack_norms > _FAR * report.norms))
    name, from_logits = _name_of_attack(report), report.attack.get("from_logits")
    notes = []
    if 2 * stuck >= len(report):
        where = f"{stuck:,} of the {len(report):,} images measured"
        notes.append(warning_of_zero_gradients(where, name, from_logits))
    if far >= _OFTEN * len(report):
        notes.append(
            f"Of {far:,} of the {len(report):,} images measured, the attack went over twice as far as to the boundary "
            "on the way to another of these images, and that distance is their margin. So the attack finds points "
            f"that are too far, and of the other images, too, margins may be too large. Try {_better_attack(report)}; "
            "if that does not help, the network may hide its gradients, as `MarginReport.compare` with a second attack "
            f"shows.{advice_on_logits(from_logits)}"
        )
    return notes


def _name_of_attack(report: MarginReport) -> str:
    return str(report.attack.get("name", "DeepFool"))


def _better_attack(report: MarginReport) -> str:
    """What to measure by instead, in the same norm, units and bounds."""
    name = _name_of_attack(report)
    if name == "FastMinimumNorm":
        return f"more steps than its {report.attack['steps']}"
    given = {key: report.attack.get(key) for key in SHARED}
    shared = ", ".join(f"{key}={value!r}" for key, value in given.items() if value not in (None, "l2"))
    if name == "DeepFool" and not shared:
        return "`FastMinimumNorm()`, or more steps"
    return f"`FastMinimumNorm(start={name}({shared}))`, or more steps"


def warn_of_notes(report: MarginReport, stacklevel: int) -> None:
    """Warn of what there is to say of a report; a stacklevel of 1 is the caller."""
    for note in notes_on(report):
        warnings.warn(note, stacklevel=stacklevel + 1)
