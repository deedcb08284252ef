"""An accelerator that any machine has: torch's PrivateUse1 device, named "sim", with the numbers of the CPU.

A tensor on it holds one of the CPU and computes there. As on a GPU, numpy cannot see it, and an operation that meets a
tensor of the CPU with dimensions raises. ``setup()`` cannot be undone, so ``torch.sim.count`` says how many devices
there are: none, until a test asks for some. Import it where tests run, never where workers start.
"""

import torch
from torch import library
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
MOVES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::_pin_memory", "aten::is_pinned"}
# What GPUs do in 16 bits, and the backward passes. Computed in 32 bits and rounded, as their tensor cores do.
PRODUCTS = {f"aten::{n}" for n in ("convolution", "convolution_backward", "mm", "addmm", "bmm", "baddbmm")}
CAST = (
    "conv1d",
    "conv2d",
    "conv2d.padding",
    "conv_transpose2d.input",
    "linear",
    "matmul",
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
)
HALVES = (torch.float16, torch.bfloat16)


class Simulated(torch.Tensor):
    """A tensor on ``sim:0``; ``held`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        wrapper = torch.Tensor._make_wrapper_subclass(cls, held.size(), device="sim:0", **layout)
        wrapper.held = held
        return wrapper

    def __repr__(self):
        return f"sim({self.held!r})"

    def __reduce_ex__(self, protocol):
        return self.held.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, to = func._schema.name, kwargs.get("device")
        plain = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor) and type(t) is not cls]
        if name not in MOVES and any(t.dim() and t.device.type == "cpu" for t in plain):
            shapes = [tuple(t.shape) for t in plain if t.dim()]
            raise RuntimeError(f"{name}: all tensors must be on sim:0, found tensors of the CPU of shapes {shapes}")
        on_cpu = {"device": torch.device("cpu")} if to is not None else {}
        inner, options = tree_map_only(cls, lambda t: t.held, (args, {**kwargs, **on_cpu}))
        computed = _rounded(func, inner, options) if name in PRODUCTS else func(*inner, **options)
        if name == "aten::copy_" and type(args[0]) is not cls:
            return args[0]  # from the device into a tensor of the CPU
        if name == "aten::_to_copy" and to is not None and torch.device(to).type == "cpu":
            return computed
        made = tree_map_only(torch.Tensor, lambda t: t if type(t) is cls else cls(t), computed)
        return return_and_correct_aliasing(func, args, kwargs, made)


def _rounded(func, args, kwargs):
    """Half-precision products in 32 bits, then rounded."""
    dtypes = {t.dtype for t in tree_flatten(args)[0] if isinstance(t, torch.Tensor)}
    if not dtypes & set(HALVES):
        return func(*args, **kwargs)
    (dtype,) = dtypes  # a GPU takes no mixture either
    wide = func(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **kwargs)
    return tree_map_only(torch.Tensor, lambda t: t.to(dtype), wide)


class Sim:
    """What torch asks of a backend's module, and devices.py through ``torch.get_device_module``."""

    count, native_bf16 = 0, True

    def is_available(self):
        return self.count > 0

    def device_count(self):
        return self.count

    def get_device_name(self, index=0):
        return "Simulated Accelerator"

    def is_bf16_supported(self, including_emulation=True):
        return self.native_bf16

    def get_amp_supported_dtype(self):
        return list(HALVES)

    def manual_seed(self, seed):
        torch.default_generator.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, index=0):
        return torch.default_generator.get_state()

    def set_rng_state(self, state, index=0):
        torch.default_generator.set_state(state)

    def is_initialized(self):
        return True

    def current_device(self):
        return 0

    def set_device(self, index):
        assert index == 0

    def synchronize(self, index=0):
        pass

    def _is_in_bad_fork(self):
        return False


_libraries = []


def setup():
    """Make torch know the device, once a process."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend("sim", backend_module=Sim())
    kernels, everything = library.Library("aten", "IMPL"), library.Library("_", "IMPL")
    _libraries.extend((kernels, everything))
    for name in ("empty.memory_format", "empty_strided", "arange.start_step", "randperm"):
        kernels.impl(name, _factory(name), "PrivateUse1")
    kernels.impl("_copy_from", _copy_from, "PrivateUse1")  # torch.tensor() calls it where no subclass is asked
    everything.fallback(library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in CAST:
        kernels.impl(name, _autocast(name), "AutocastPrivateUse1")


def _overload(name):
    name, _, overload = name.partition(".")
    return getattr(getattr(aten, name), overload or "default")


def _factory(name):
    def kernel(*args, **kwargs):
        return Simulated(_overload(name)(*args, **{**kwargs, "device": "cpu", "pin_memory": False}))

    return kernel


def _copy_from(source, target, non_blocking=False):
    source, target_held = (t.held if type(t) is Simulated else t for t in (source, target))
    target_held.copy_(source)
    return target


def _autocast(name):
    def kernel(*args, **kwargs):
        dtype = torch.get_autocast_dtype("sim")
        cast = lambda t: t.to(dtype) if t.dtype is torch.float32 else t  # noqa: E731
        args, kwargs = tree_map_only(torch.Tensor, cast, (args, kwargs))
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return _overload(name)(*args, **kwargs)

    return kernel
