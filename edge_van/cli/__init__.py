"""The command line: one file a verb, and the tables they print."""
