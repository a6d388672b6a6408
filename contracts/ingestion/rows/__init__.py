"""What becomes of rows: which are kept, which repeat, which requests and returns they belong to."""
