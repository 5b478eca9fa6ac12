"""Asking a model the questions of a data set, in a context of choice, and scoring what it says."""
