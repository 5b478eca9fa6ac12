"""Results to tables with confidence intervals."""
