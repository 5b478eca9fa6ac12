"""The page of memories: chunks left to right, statements that come, change and go, and the messages they rest on."""
