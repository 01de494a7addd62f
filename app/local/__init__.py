"""Runs Chesboard on one machine: embedded servers, processes, migrations, backup and the demo."""
