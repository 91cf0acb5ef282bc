"""How a scan is brought to the grid of a network and back, and the cache of prepared cases."""
