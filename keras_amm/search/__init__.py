"""DeepFool's walk to the nearest decision boundary.

`loop` takes the steps, `linearisation` finds the nearest linear boundary of each,
`geometry` holds the norms. Nothing here depends on how the result is used.
"""
