"""A second decoder, written from docs/format.md alone: it shares no code with the package."""
