"""What each subcommand does: `run(config) -> exit code`."""
