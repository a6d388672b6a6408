"""What a knowledge artifact is worth trusting: figures, agreement of two artifacts, and a page of both."""
