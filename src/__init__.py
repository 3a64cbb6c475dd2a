"""Deep metric learning and zero-shot learning on MindSpore."""
__version__ = '0.4.0'
