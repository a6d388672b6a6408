"""Rankers of other libraries, trained and scored in an environment of their own."""
