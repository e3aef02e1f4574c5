"""The commands of `keras-amm`, one module each: its options, and what it does with them."""
