"""Where a step's time goes: the operators' shares, and on CUDA how well the chip is used."""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import Table

__all__ = ["busy_table", "profile_table"]

CITYSCAPES_IMAGES = 2975  # in its training split


def profile_table(step: Callable[[], None], title: str, rows: int = 8) -> Table:
    """Profile one call and list the operators that take most of it, without what they call in turn."""
    events, cuda = _profiled(step, 1), torch.cuda.is_available()
    spent = {event.key: event.self_device_time_total if cuda else event.self_cpu_time_total for event in events}
    calls = {event.key: event.count for event in events}
    whole = sum(spent.values()) or 1
    longest = sorted(spent, key=spent.get, reverse=True)[:rows]
    listed = [
        {"operator": _readable(name), "share, %": f"{100 * spent[name] / whole:.0f}", "calls": calls[name]}
        for name in longest
    ]
    where = "the device" if cuda else "the CPU"
    return Table(title, listed, f"One step under torch.profiler; shares of the time that operators spend on {where}.")


def _readable(name: str) -> str:
    """Name an operator; each piece of compiled code has a hash for a name."""
    return "compiled code" if "CompiledFxGraph" in name else name[:70]


def busy_table(title: str, step: Callable[[], None], batch: int, steps: int = 10) -> Table:
    """Say how well a step uses a CUDA device; `step` waits for its end."""
    with FlopCounterMode(display=False) as counter:
        step()
    seconds = _wall(step, steps)
    busy = sum(event.self_device_time_total for event in _profiled(step, steps)) / 1e6 / steps
    per_second, peak = counter.get_total_flops() / seconds, _peak()
    row = {
        "images/s": f"{batch / seconds:.1f}",
        "Tflop/s": f"{per_second / 1e12:.1f}",
        "share of the bfloat16 peak, %": f"{100 * per_second / peak:.0f}",
        "device idle, %": f"{100 * max(0.0, 1 - busy / seconds):.0f}",
        f"epoch of {CITYSCAPES_IMAGES} images, s": f"{CITYSCAPES_IMAGES / batch * seconds:.0f}",
    }
    note = (
        "The last row's step. Operations: PyTorch's counter, convolutions and matrix products of forward and backward "
        f"pass. Peak: {peak / 1e12:.0f} Tflop/s, what a product of two 8192 × 8192 bfloat16 matrices reached in this "
        "run. The epoch is that many steps, its data already on the device."
    )
    return Table(f"{title}: use of the device", [row], note)


def _profiled(step: Callable[[], None], steps: int):
    """Return the profiler's averages; on CUDA the device's own kernels alone."""
    cuda = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
    return profiler.key_averages()


def _peak() -> float:
    """Return the operations per second of a large bfloat16 matrix product."""
    side = 8192
    a = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)

    def product() -> None:
        a @ a
        torch.cuda.synchronize()

    product()
    return 2 * side**3 / min(_wall(product, 1) for _ in range(20))


def _wall(function: Callable[[], None], times: int) -> float:
    """Return the seconds of one call, from `times` in a row."""
    started = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - started) / times
