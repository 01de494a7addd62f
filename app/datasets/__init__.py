"""Preference datasets: upload, preview, storage, issues, export."""
