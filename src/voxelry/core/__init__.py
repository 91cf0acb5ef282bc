"""Shared types of all rooms: geometry, volumes, labels, plans, models, and the table of networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
