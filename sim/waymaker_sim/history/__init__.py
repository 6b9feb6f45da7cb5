"""What callers were told, in order, as the checkers need it."""
