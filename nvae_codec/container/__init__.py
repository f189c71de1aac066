"""The .nvae file: header, blocks and checksums."""
