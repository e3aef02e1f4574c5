"""Variants of the MNIST protocol, trained to find what a difference from the paper's numbers comes from."""
