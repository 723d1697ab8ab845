"""Sources: each reads one published format and gives tasks."""
