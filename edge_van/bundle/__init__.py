"""The artifact folder: its manifest, its records, its files."""
