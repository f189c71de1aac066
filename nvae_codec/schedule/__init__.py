"""What to code in which order: tiles, batches and the plan in the file."""
