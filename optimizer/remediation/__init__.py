"""From findings to changed settings, back again, and to the proof on the bill."""
