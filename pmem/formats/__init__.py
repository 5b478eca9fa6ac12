"""Data of other makers: reading it into records, and writing records as others expect them."""
