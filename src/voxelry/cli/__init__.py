"""The command line: each verb calls one function of `voxelry.api` and prints the result."""
