"""melt measures how fast, how frugal and how hot a model runs on a device."""

__version__ = "0.1.0"
