"""The command line: ``refnet COMMAND``, with one module per command, imported when the command is called."""
