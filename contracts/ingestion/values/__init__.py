"""What a cell means, whatever type it was stored in: missing words, ids, numbers, times, texts."""
