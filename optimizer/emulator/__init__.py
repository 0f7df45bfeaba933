"""The Azure APIs over HTTPS on an estate folder; knows nothing of the analysis."""
