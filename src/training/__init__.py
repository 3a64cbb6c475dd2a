"""Training: learning rate, optimizer, step, callbacks, checkpoints, devices."""
from src.training.learning_rate import get_lr

__all__ = ['get_lr']
