"""What the teacher costs: the ledger of a run, the spending of all runs, and the budget."""
