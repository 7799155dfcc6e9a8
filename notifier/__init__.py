"""The notifier: alerts become mail, each once, and no failure of one holds up the others."""
