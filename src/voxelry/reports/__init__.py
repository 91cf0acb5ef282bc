"""What a person looks at: overlay pictures, score tables, and the page that holds them together."""
