"""voxelry."""
