"""One file per command: its options, and the stage's own few functions. Stages never import each other."""
