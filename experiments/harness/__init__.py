"""Launch experiments: the command line, many seeds side by side, runs that go on after a stop."""
