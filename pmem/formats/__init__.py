"""Other people's formats: a reader from files to entries for each, and functions from an entry to records and back.

A reader yields `stream.source.Entry` (a parsed item as `record`, its file and line) or `Torn` (what can't be parsed,
with the reason); `Pipe.take` does the rest.
"""
