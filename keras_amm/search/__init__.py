"""DeepFool's walk to the nearest decision boundary.

`loop` takes the steps, `path` records them, `linearisation` finds the nearest linear boundary,
`screening` leaves out samples that are far from any boundary, `norms` holds l2 and l-infinity. Nothing
here depends on how the result is used.
"""
