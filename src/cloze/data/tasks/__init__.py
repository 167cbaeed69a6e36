"""Labelled data: the readers of the downstream tasks' files, each a `TaskCorpus`.

`rows.py` reads rows of any table with their places, `benchmark.py` makes corpora of them; the other files say what a benchmark's rows
mean.
"""
