"""The command line: each verb calls one function of `voxelry.api` and shows what it returns."""
