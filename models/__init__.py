"""Three rooms that do not import each other: knowledge, behavior, ranker."""
