"""Exchange: models go to other programs and come from them, and prove that their labels stay the same."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
