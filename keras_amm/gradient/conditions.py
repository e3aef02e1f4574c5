"""What a window of batches may show that makes margins meaningless: one table of conditions and messages."""

from collections.abc import Callable
from typing import NamedTuple

from keras_amm.attack import Attack
from keras_amm.network.zero_gradients import warning_of_zero_gradients
from keras_amm.regularizer import MarginRegularizer


class Window(NamedTuple):
    """Sums over the batches of a window.

    Attributes:
        batches: how many batches had a penalty.
        searched_batches: in how many of them anything was searched.
        stuck_batches: in how many of these no search could take a step.
        samples: how many samples there were.
        predicted_alike: how many were predicted as the class that most of their batch were.
        labelled_alike: how many are of the class that most of their batch are.
        one_sided_batches: how many batches had no penalty because all of their samples are of one of two classes.
        searched: how many were attacked.
        success: how many attacks succeeded.
        counted: how many samples the penalty counted.
        capped: of how many of these the penalty has no gradient, for it is at its cap, or 0.
        clipped: how many of these it would pull harder than `max_influence` allows.
        infinite: how many attacks went infinitely far.
        negative_batches: in how many batches an output was negative.
        size_of_values: the sum over the batches of the root mean square of their images.
    """

    batches: float
    searched_batches: float
    stuck_batches: float
    samples: float
    predicted_alike: float
    labelled_alike: float
    one_sided_batches: float
    searched: float
    success: float
    counted: float
    capped: float
    clipped: float
    infinite: float
    negative_batches: float
    size_of_values: float

    @property
    def mean_size(self) -> float:
        """The root mean square of an image, on average; 0 where there is none."""
        return self.size_of_values / self.batches if self.batches else 0.0


class Setting(NamedTuple):
    """What the conditions need to know of the training.

    Attributes:
        regularizer: its penalty.
        attack: its attack.
        expects_probabilities: whether its loss takes the outputs for probabilities.
        rescaling: the names of the layers that scale images within the model.
        is_sum: whether its loss is summed over a batch.
    """

    regularizer: MarginRegularizer
    attack: Attack
    expects_probabilities: bool
    rescaling: list[str]
    is_sum: bool = False


class Condition(NamedTuple):
    """One thing that may be wrong.

    Attributes:
        name: by which it is told once.
        holds: whether a window shows it.
        message: one line that says what to do.
        is_lasting: whether it is harmless in a new network, so that the first window does not count.
    """

    name: str
    holds: Callable[[Window, Setting], bool]
    message: Callable[[Window, Setting], str]
    is_lasting: bool = False


_WEAKER = "choose a smaller `max_influence` or `strength`, a longer `warmup_steps`, or `above_chance=True`"
# Attacks succeed nearly always; nearly all samples are one class's, or have no gradient; values are far from 1.
_FEW, _NEARLY_ALL, _NOT_SO, _LARGE = 0.5, 0.95, 0.9, 20.0
# So many samples of other classes, of which hardly any is predicted as such, are no accident.
_SOME = 20.0


def _is_stuck(window: Window, setting: Setting) -> bool:
    del setting
    return 3 <= window.stuck_batches == window.searched_batches


def _where_stuck(window: Window, setting: Setting) -> str:
    where = f"all images of {window.searched_batches:.0f} batches"
    return warning_of_zero_gradients(where, type(setting.attack).__name__, setting.attack.from_logits)


def _has_logits(window: Window, setting: Setting) -> bool:
    return setting.expects_probabilities and window.negative_batches > 0


def _of_logits(window: Window, setting: Setting) -> str:
    del window, setting
    return (
        "The loss takes the outputs of the model for probabilities (`from_logits=False`), but some are negative: they "
        "are logits. Compile the loss with `from_logits=True`, or let the model end in a softmax or sigmoid."
    )


def _is_sum(window: Window, setting: Setting) -> bool:
    return setting.is_sum and window.samples > window.batches > 0


def _of_sum(window: Window, setting: Setting) -> str:
    del setting
    times = window.samples / window.batches
    return (
        f"The loss is the sum over a batch (`reduction='sum'`) and the penalty a mean, so the penalty is {times:.0f} "
        "times as weak beside it as it is meant to be. Compile the loss with `reduction='sum_over_batch_size'`, and "
        f"with SGD take a learning rate {times:.0f} times as large."
    )


def _are_values_large(window: Window, setting: Setting) -> bool:
    if setting.regularizer.normalize is not None:
        return False
    size, c = window.mean_size, setting.regularizer.c
    # The c of the hinge is a margin; that of all others multiplies the margin.
    return (size / c if setting.regularizer.shrinkage == "hinge" else size * c) > _LARGE


def _of_large_values(window: Window, setting: Setting) -> str:
    inside = f", and are scaled within the model ({', '.join(setting.rescaling)})" if setting.rescaling else ""
    return (
        f"The values of the images are about {window.mean_size:.2g} in size{inside}, so margins have the unit of these "
        f"values, and c={setting.regularizer.c:g} and d={setting.regularizer.d:g} do not fit such margins. Take "
        "`MarginRegularizer(normalize='median')`, for which no unit matters, or scale the images to values of about 1 "
        "before they reach the model, or choose c and d for margins of this unit."
    )


def _is_scaled_inside(window: Window, setting: Setting) -> bool:
    return setting.regularizer.normalize is not None and bool(setting.rescaling) and window.mean_size > _LARGE


def _of_scaling_inside(window: Window, setting: Setting) -> str:
    return (
        f"The images are scaled within the model ({', '.join(setting.rescaling)}), so margins have the unit of its "
        f"inputs, whose values are about {window.mean_size:.0f} in size. The training is as "
        "good, since normalize makes it independent of the unit. For margins of pixels in [0, 1] scale the images "
        "before they reach the model, or divide the margins by the largest value of a pixel."
    )


def _is_infinite(window: Window, setting: Setting) -> bool:
    del setting
    return window.infinite > 0


def _of_infinite(window: Window, setting: Setting) -> str:
    del setting
    return (
        f"The margin of {window.infinite:.0f} images in {window.batches:.0f} batches is infinite: the logits are so "
        "large, and their gradient with respect to the image so small, that one step leads beyond all numbers. Lower "
        "the learning rate, add weight decay or a normalisation layer, and scale the images to values about 1."
    )


def _are_labels_alike(window: Window) -> bool:
    return window.labelled_alike >= _NOT_SO * window.samples


def _is_one_class(window: Window, setting: Setting) -> bool:
    del setting
    if not _are_labels_alike(window):
        return window.predicted_alike >= _NEARLY_ALL * window.samples
    # Where nearly all labels are of one class, the few others tell.
    others, predicted_otherwise = window.samples - window.labelled_alike, window.samples - window.predicted_alike
    return others >= _SOME and predicted_otherwise <= (1.0 - _NEARLY_ALL) * others


def _of_one_class(window: Window, setting: Setting) -> str:
    del setting
    if not _are_labels_alike(window):
        seen = (
            f"{window.predicted_alike / window.samples:.0%} of the images of a batch are predicted as one class, "
            f"though only {window.labelled_alike / window.samples:.0%} are of one"
        )
    else:
        others = window.samples - window.labelled_alike
        seen = f"Hardly any of the {others:.0f} images of other classes than the most frequent one is predicted as such"
    return (
        f"{seen} ({window.batches:.0f} batches): the classifier has collapsed into a constant, or has learnt nothing "
        f"yet. If it learns without a penalty, {_WEAKER}; if not, change the learning rate."
    )


def _are_one_sided(window: Window, setting: Setting) -> bool:
    del setting
    return window.batches > 0 and window.one_sided_batches >= _NEARLY_ALL * window.batches


def _of_one_sided(window: Window, setting: Setting) -> str:
    del setting
    return (
        f"All images of a batch are of the same class in {window.one_sided_batches:.0f} of {window.batches:.0f} "
        "batches. With two classes, `strength='auto'` pulls on both of them alike, so these batches have no penalty. "
        "Shuffle the training images, or take larger batches."
    )


def _do_few_succeed(window: Window, setting: Setting) -> bool:
    # Where failed attacks count too, as after a single step, failing is no fault.
    is_meant = not setting.regularizer.only_successful
    return not is_meant and window.searched > 0 and window.success < _FEW * window.searched


def _of_few_successes(window: Window, setting: Setting) -> str:
    del setting
    return (
        f"Only {window.success / window.searched:.0%} of the attacks of {window.batches:.0f} batches reached a "
        "boundary, so most margins are not known, and the penalty can hardly act. If the training accuracy is poor, "
        f"the penalty has made the network flat: {_WEAKER}. If it is good, let attacks go further: "
        "`DeepFool(max_iterations=50)`."
    )


def _are_capped(window: Window, setting: Setting) -> bool:
    del setting
    return window.counted > 0 and window.capped >= _NEARLY_ALL * window.counted


def _of_capped(window: Window, setting: Setting) -> str:
    penalty = setting.regularizer
    seen = (
        f"{window.capped / window.counted:.0%} of the samples that the penalty counted in {window.batches:.0f} batches "
        f"have no gradient from it: it is at its cap, max_penalty={penalty.max_penalty:g}, or 0 for so large a margin."
    )
    if isinstance(penalty.strength, (int, float)) and penalty.strength > penalty.max_penalty:
        return f"{seen} Choose a `strength` that is smaller than the cap, or `strength='auto'`, which has none."
    unit = "" if penalty.normalize == "median" else ", or `normalize='median'`, which makes them fit any margins"
    return f"{seen} Choose smaller c and d than {penalty.c:g} and {penalty.d:g}{unit}."


def _are_clipped(window: Window, setting: Setting) -> bool:
    # With a strength larger still, more of the samples are at the cap, and have no pull.
    has_pull = window.counted - window.capped
    return not _are_capped(window, setting) and has_pull > 0 and window.clipped >= _NEARLY_ALL * has_pull


def _of_clipped(window: Window, setting: Setting) -> str:
    penalty = setting.regularizer
    return (
        f"{window.clipped / window.counted:.0%} of the samples that the penalty counted in {window.batches:.0f} "
        f"batches are pulled by as much as max_influence={penalty.max_influence:g} allows: the strength is so large "
        "that it has hardly any effect, and near images are pulled no harder than far ones. Choose a smaller "
        "`strength`, or `strength='auto'`."
    )


# The first that holds is told, so causes stand before their effects.
CONDITIONS = (
    Condition("no gradient", _is_stuck, _where_stuck),
    Condition("logits", _has_logits, _of_logits),
    Condition("sum", _is_sum, _of_sum),
    Condition("values", _are_values_large, _of_large_values),
    Condition("scaling", _is_scaled_inside, _of_scaling_inside),
    Condition("infinite", _is_infinite, _of_infinite),
    Condition("one class", _is_one_class, _of_one_class, is_lasting=True),
    Condition("one-sided batches", _are_one_sided, _of_one_sided, is_lasting=True),
    Condition("few successes", _do_few_succeed, _of_few_successes, is_lasting=True),
    Condition("capped", _are_capped, _of_capped, is_lasting=True),
    Condition("clipped", _are_clipped, _of_clipped, is_lasting=True),
)
