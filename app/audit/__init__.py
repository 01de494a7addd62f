"""The audit log: recording changes and downloads, and reading what was recorded."""
