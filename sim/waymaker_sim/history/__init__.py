"""The history: the answers that clients got, in order, as the checkers need them."""
