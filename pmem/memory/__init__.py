"""The agentic memory: a short text about one user, written anew after each chunk of the chats. Knows no backend."""
