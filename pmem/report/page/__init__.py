"""Results as one self-contained HTML page: figures, tables, and every question to look at."""
