"""The paper: its networks, data sets, training protocol and experiments, as the scripts share them."""
