"""One JSON file a run: write and read records. Standard library only."""
