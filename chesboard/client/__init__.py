"""Watching trainings that run elsewhere: probes in the trainer's own process, records to a server.

`chesboard.watch` and `chesboard.Callback` are the ways in; this package imports nothing by itself.
"""
