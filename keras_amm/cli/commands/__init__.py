"""The commands of `keras-amm`. Each has a module, which adds the command's arguments to a parser and runs it."""
