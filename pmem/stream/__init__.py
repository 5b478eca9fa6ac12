"""The pipe that every command runs on: reading, checking, ordered bounded concurrency, writing, rejects."""
