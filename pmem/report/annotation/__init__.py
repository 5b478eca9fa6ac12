"""People judge questions: sheets for them to fill in, and how far they agree."""
