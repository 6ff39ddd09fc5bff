"""Numbers that change from step to step, kept where kernels read them: in the device's memory.

A captured graph repeats its launches with the very arguments that they were captured with. The step's number and the
rates of an update would be frozen there, so kernels are given the place where such a number stands, and ``set``
writes the next one to it, in the order of the device's work.
"""

import torch

from refnet_triton import _memory

Name = tuple[str, float]  # what it is, and the weight decay where it depends on one

STEP: Name = ("step", 0)
LR: Name = ("lr", 0)

_held: dict[tuple[Name, torch.device], tuple[float, torch.Tensor]] = {}


def decay(weight_decay: float) -> Name:
    """Name the product of a weight decay and the learning rate."""
    return ("decay", weight_decay)


def hold(name: Name, value: float, device: torch.device) -> torch.Tensor:
    """Return the place (1,) of a number on a device: int32 for whole numbers, float32 for others."""
    key = (name, device)
    if key not in _held:
        place = _memory.empty((1,), torch.int32 if isinstance(value, int) else torch.float32, device)
        _held[key] = value, place.fill_(value)
    held, place = _held[key]
    if held != value:
        _held[key] = value, place.fill_(value)
    return place


def set_step(step: int) -> None:
    """Write the step's number wherever it is held."""
    for name, device in list(_held):
        if name == STEP:
            hold(name, signed(step), device)


def set_lr(lr: float) -> None:
    """Write the learning rate, and what follows from it, wherever they are held."""
    for name, device in list(_held):
        if name == LR:
            hold(name, lr, device)
        elif name[0] == "decay":
            hold(name, name[1] * lr, device)


def signed(word: int) -> int:
    """Give a word modulo 2^32 as the signed number of the same bits."""
    return (word + 2**31) % 2**32 - 2**31
