"""Records made by workers on a Ray cluster: options, the run as the command sees it, workers, and what they share."""
