"""The timeline of a run: each event with its actor and virtual time, above all in a run that violated a check.

`record` defines what is recorded, `recorder` records it during the run, `words` and `plan` put it into words, `about`
finds the names in a violation, `selection` selects the moments that matter to it; `text` and `page` print them.
"""
