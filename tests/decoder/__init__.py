"""A second decoder, written from docs/format.md alone. From the package it takes the network, and nothing else."""
