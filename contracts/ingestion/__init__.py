"""Reads a catalogue and a behavior log of any common shape into the project's tables."""
