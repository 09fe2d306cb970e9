"""Pages: the server's, and one that runs a bundle in any browser or phone by itself."""
