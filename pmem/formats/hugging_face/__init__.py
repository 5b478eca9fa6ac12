"""A Hugging Face dataset folder: JSON lines of one Arrow type per column, and a dataset card that declares them.

`columns` makes rows of records, `card` writes the README, `writing` makes the folder.
"""
