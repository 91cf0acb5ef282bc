"""What every room needs: files, schema, threads, memory, optional dependencies, compiled loops. Imports nothing of the rooms."""
