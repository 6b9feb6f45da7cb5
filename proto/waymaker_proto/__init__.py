"""The wire: the public contract, the project's own protocols, and the code generated from both.

The ``.proto`` files beside this module are the source; every ``*_pb2`` file is written by ``make proto`` and
never by hand, and a test regenerates them and compares. Nothing here may import the core, the shell or the
simulator: the wire is the part that programs outside this project share with it.
"""
