"""The interface of the core: inputs with requests come in, effects with replies leave; `authorize` says who may ask for
what.
"""
