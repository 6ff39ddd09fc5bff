"""Numbers that change from step to step: the step number, the learning rate and its products with weight decays.

They are in device memory, from which kernels read them. If they were arguments of kernels, a recorded CUDA graph would
always repeat the values of the recording. So kernels get the address of such a number, and ``set_step`` and ``set_lr``
write the next value there, in the order of the device's work.
"""

import torch

from refnet_triton import _memory

Name = tuple[str, float]  # which number it is; and, for the product with a weight decay, that decay, otherwise 0

STEP: Name = ("step", 0)
LR: Name = ("lr", 0)

_scalars: dict[tuple[Name, torch.device], tuple[float, torch.Tensor]] = {}  # the value and the array that has it


def decay(weight_decay: float) -> Name:
    """Return the name of the product of a weight decay and the learning rate."""
    return ("decay", weight_decay)


def hold(name: Name, value: float, device: torch.device) -> torch.Tensor:
    """Return the array (1,) that has a number on a device: int32 for an integer, otherwise float32.

    The array is created at the first call. A later call writes the value to it if it has another.
    """
    key = (name, device)
    if key not in _scalars:
        array = _memory.empty((1,), torch.int32 if isinstance(value, int) else torch.float32, device)
        _scalars[key] = value, array.fill_(value)
    current, array = _scalars[key]
    if current != value:
        _scalars[key] = value, array.fill_(value)
    return array


def set_step(step: int) -> None:
    """Write the number of the step on every device that has it."""
    for name, device in list(_scalars):
        if name == STEP:
            hold(name, signed(step), device)


def set_lr(lr: float) -> None:
    """Write the learning rate, and its products with weight decays, on every device that has them."""
    for name, device in list(_scalars):
        if name == LR:
            hold(name, lr, device)
        elif name[0] == "decay":
            hold(name, name[1] * lr, device)


def signed(word: int) -> int:
    """Return the signed 32-bit number with the same bits as a word modulo 2^32."""
    return (word + 2**31) % 2**32 - 2**31
