"""Foundations of every room: files, schemas, threads, memory, devices, optional dependencies, compiled loops."""
