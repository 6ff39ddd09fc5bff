"""Numbers that change from step to step, in device memory, where kernels read them.

A recorded CUDA graph repeats its launches with the arguments of the recording. If the step number and the learning rate
were arguments, they would never change. So kernels get the address of such a number instead, and ``set_step`` and
``set_lr`` write the next value there, in the order of the device's work.
"""

import torch

from refnet_triton import _memory

Name = tuple[str, float]  # what the number is, and the weight decay that it depends on, or 0

STEP: Name = ("step", 0)
LR: Name = ("lr", 0)

_held: dict[tuple[Name, torch.device], tuple[float, torch.Tensor]] = {}


def decay(weight_decay: float) -> Name:
    """Return the name of the product of a weight decay and the learning rate."""
    return ("decay", weight_decay)


def hold(name: Name, value: float, device: torch.device) -> torch.Tensor:
    """Return the array (1,) that holds a number on a device, int32 for integers and float32 for others.

    It is created, or the new value is written to it, if necessary.
    """
    key = (name, device)
    if key not in _held:
        place = _memory.empty((1,), torch.int32 if isinstance(value, int) else torch.float32, device)
        _held[key] = value, place.fill_(value)
    held, place = _held[key]
    if held != value:
        _held[key] = value, place.fill_(value)
    return place


def set_step(step: int) -> None:
    """Write the number of the step on every device that holds it."""
    for name, device in list(_held):
        if name == STEP:
            hold(name, signed(step), device)


def set_lr(lr: float) -> None:
    """Write the learning rate, and its products with weight decays, on every device that holds them."""
    for name, device in list(_held):
        if name == LR:
            hold(name, lr, device)
        elif name[0] == "decay":
            hold(name, name[1] * lr, device)


def signed(word: int) -> int:
    """Return the signed 32-bit number with the same bits as a word modulo 2^32."""
    return (word + 2**31) % 2**32 - 2**31
