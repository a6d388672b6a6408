"""The loop: what rankers earn on the pages of simulated shops, by the simulator's exact truth."""
