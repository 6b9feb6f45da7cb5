"""Measuring a server from the command line: figures, kinds of work, and a server of the command's own."""
