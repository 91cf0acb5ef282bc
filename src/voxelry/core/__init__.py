"""Shared types of all rooms: geometry, volumes, labels, plans, models, and the table of networks."""
