"""Training recipes: a frozen tree of settings, read from one YAML file each."""
