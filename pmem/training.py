"""The options of every command that trains, as decorators."""
