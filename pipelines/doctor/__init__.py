"""What a cluster must have before anything is sent to it, asked one by one."""
