"""Command line of nvae-codec: one small module a command."""
