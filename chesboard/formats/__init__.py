"""Readers and writers of files of preference pairs and scores, for the library and the server."""
