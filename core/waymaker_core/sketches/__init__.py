"""Sketches: small summaries of many values, whose answers are off by a bounded error.

One file is one algorithm. All have the same four verbs: `add` a batch of values, `merge` another sketch of the same
parameters, write a `snapshot`, and `restore` one; each has its own question. A state depends on nothing but what was added:
it is made of integers and of basic IEEE 754 operations, which give the same result on every machine. Answers change nothing.
"""
