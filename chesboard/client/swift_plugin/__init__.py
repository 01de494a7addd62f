"""What ms-swift is told to import, in a folder of its own: it puts the folder before all others
that Python looks for modules in."""
