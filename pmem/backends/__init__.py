"""Models behind one async interface."""
