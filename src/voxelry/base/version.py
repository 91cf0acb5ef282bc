"""The version, in one place; the build reads it from here."""

__version__ = "0.1.0"


def version() -> str:
    """The version of voxelry.

    Example:
        >>> import voxelry
        >>> voxelry.version() == voxelry.__version__
        True
    """
    return __version__
