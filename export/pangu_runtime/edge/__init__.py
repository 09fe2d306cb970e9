"""A watcher of a folder or a camera at the line: decides every image once, through crashes and power loss. No torch."""
