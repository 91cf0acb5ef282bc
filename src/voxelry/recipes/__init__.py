"""Training recipes: a frozen tree of settings, one YAML file each."""
