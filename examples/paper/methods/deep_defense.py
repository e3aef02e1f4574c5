"""Deep Defense: DeepFool's perturbations as a penalty (Yan et al., 2018), by both equations of the paper."""

import dataclasses
from typing import ClassVar

import keras

import keras_amm

from .method import Method


@dataclasses.dataclass(frozen=True)
class DeepDefense(Method):
    """`strength / n [sum_correct exp(-c |delta|) + sum_wrong exp(d |delta|)]`: Equation 6, which is AMM's AVG+EXP.

    As AMM does, and unlike the equation, it bounds `strength exp(.)` of an image by 50, beyond which the image has no
    pull, and takes norms that are longer by DeepFool's overshoot of 2%.

    Reference: Yan et al., "Deep Defense" (NeurIPS 2018), in the paper's Equation 6; the defaults are its AVG+EXP.

    Attributes:
        strength: lambda.
        c: the scale of correctly classified images.
        d: the scale of misclassified ones.
        max_iterations: steps of DeepFool.
    """

    strength: float = 32.0
    c: float = 2.0
    d: float = 2.0
    max_iterations: int = 6

    # By what norms are divided, as in `MarginRegularizer`: it tells the equations apart, and is no setting.
    normalize: ClassVar[str | None] = None

    @property
    def regularizer(self) -> keras_amm.MarginRegularizer:
        """The penalty."""
        return keras_amm.MarginRegularizer.from_paper(
            "avg-exp", strength=self.strength, c=self.c, d=self.d, normalize=self.normalize
        )

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model that trains with the penalty."""
        attack = keras_amm.DeepFool(self.max_iterations)
        return keras_amm.wrap(network, regularizer=self.regularizer, attack=attack)


@dataclasses.dataclass(frozen=True)
class RelativeDeepDefense(DeepDefense):
    """`strength / n [sum_correct exp(-c |delta| / |x|) + sum_wrong exp(d |delta| / |x|)]`: Equation 5.

    The equation has no 1 / n; the authors' published code divides by the batch, and so does this. Bound and overshoot
    are as in `DeepDefense`.

    Reference: Yan et al., "Deep Defense" (NeurIPS 2018), in the paper's Equation 5. The defaults are those of its code,
    which fine-tunes for 5 epochs with a learning rate of 5e-4. |x| is the norm of the image without its mean.

    Attributes:
        strength: lambda.
        c: the scale of correctly classified images.
        d: the scale of misclassified ones.
        max_iterations: steps of DeepFool.
    """

    strength: float = 15.0
    c: float = 25.0
    d: float = 5.0
    max_iterations: int = 5

    normalize: ClassVar[str | None] = "input"
