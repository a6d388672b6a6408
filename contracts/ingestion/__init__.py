"""Reads a catalogue and a behaviour log of any common shape into the project's tables."""
