"""Lists of inferred behaviors for all users and snapshots, piece by piece, in bounded memory."""
