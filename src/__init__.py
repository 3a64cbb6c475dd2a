"""Deep metric learning and zero-shot learning on MindSpore."""
__version__ = '0.5.0'
