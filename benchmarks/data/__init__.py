"""Data as it comes: is it right, is it fast, does memory stay bounded."""
