"""Pure: activity, settings and rates in, findings out. No clock, network, disk or environment."""
