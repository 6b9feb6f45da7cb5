"""The story of a run: who did what and when in virtual time, above all in a run that broke a promise.

`record` is what is written down, `recorder` writes it while the run is lived, `words` and `plan` put it into words, `about`
finds what a violation speaks of, `selection` what of all this matters to it; `text` and `page` tell it.
"""
