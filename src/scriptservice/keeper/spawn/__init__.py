"""Starting a script's process: the specification, the methods to start one, the files it reads."""
