"""How the data are made: people, preferences, conversations, histories, questions. Stages call this, in pipes."""
