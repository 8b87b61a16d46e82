"""The networks and training methods of the experiments."""
