"""The steps that distill a catalogue: batches of items in, the KNOWLEDGE table and its trace out."""
