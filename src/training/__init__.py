"""Training: learning rate, optimizer, step, loop, states."""
from src.training.learning_rate import get_lr

__all__ = ['get_lr']
