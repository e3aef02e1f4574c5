"""The search for lambda, c and d on held-out training images."""
