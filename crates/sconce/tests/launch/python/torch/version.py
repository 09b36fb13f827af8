"""Its version."""
__version__ = '2.15.0+fake'
