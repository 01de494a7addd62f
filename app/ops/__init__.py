"""Monitoring: health check, status report and Prometheus metrics of the whole deployment."""
