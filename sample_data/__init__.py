"""The sample estate and the script that makes it."""
