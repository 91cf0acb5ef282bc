"""How well a prediction agrees with its reference: overlap per case and label, with an explicit rule for empty masks."""
