"""The margin penalty of a batch and its gradient with respect to the weights.

`penalty` searches, selects and differentiates; `adjoint` differentiates the whole path
(`gradient="unrolled"` and `"masked"`), `boundary` its last point alone. `metrics` is what `fit` shows of it,
and `health` what it warns of.
"""
