"""Files in and out: one table of formats, with the readers and writers it names."""
