"""Scripts that train with AMM; README.md says which shows what. What they share is in `examples.paper`."""
