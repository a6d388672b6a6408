"""What becomes of single events: who sent them, whether they came before, what they were worth."""
