"""Random mutants of the core: faults drawn from its syntax tree, each tried by simulation and by the property tests.

The hand-written list (`waymaker_sim.mutants`) proves that the checks hold the rules that its authors thought of. Random
mutants test every line. No file is changed: a child process compiles the mutated tree when it imports the module.
"""
