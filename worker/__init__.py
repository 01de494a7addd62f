"""What runs on a device for the server: claims runs, executes them, records their results."""
