"""Peak memory of one contestant in a process of its own: ``python -m overhead_bench.memory CASE CONTESTANT ...``.

The host's peak is the kernel's high-water mark of the process (Linux). What it holds beyond the bare loop's is the copy
of the state, and the imports of the package; both are told. A device's peak is that of torch's allocator during
the call.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from overhead_bench.cases import Case, Task, TokenLoss, build_task, gpt, resnet18, state_bytes, tokens, wide_mlp
from overhead_bench.contestants import BARE, CONTESTANTS, OURS, Unable, prepare_ours, silenced

__all__ = ["MEMORY_CASES", "MEMORY_CONTESTANTS", "OFFLOADED", "Unable", "measure"]

OFFLOADED = f'{OURS}, snapshot="cpu"'
STEPS = 12  # a peak is reached in the first steps; the advice needs 10
_ADAMW: dict[str, Any] = {"optimizer": torch.optim.AdamW, "options": {"lr": 1e-3}, "end_lr": 1e-3, "limit": 1.0}
MEMORY_CASES: dict[str, dict[str, Case]] = {
    "cpu": {
        "resnet18": Case(
            title="ResNet-18, AdamW", model=resnet18, inputs=(3, 32, 32), batch_size=8, batches=16, **_ADAMW
        ),
        "mlp25m": Case(
            title="MLP of 25 million parameters, AdamW",
            model=partial(wide_mlp, 5000),
            inputs=(64,),
            batches=16,
            **_ADAMW,
        ),
    }
}
MEMORY_CASES["cuda"] = {
    **MEMORY_CASES["cpu"],
    "gpt": Case(
        title="GPT of 124 million parameters, AdamW",
        model=gpt,
        inputs=(512,),
        data=tokens(50257),
        criterion=TokenLoss,
        batch_size=8,
        batches=16,
        **_ADAMW,
    ),
}
MEMORY_CONTESTANTS: dict[str, Callable[[Task], Callable[[], object]]] = {
    name: contestant.prepare for name, contestant in CONTESTANTS.items() if name in (BARE, OURS) or contestant.rival
}
MEMORY_CONTESTANTS[OFFLOADED] = partial(prepare_ours, snapshot="cpu")


def measure(case: str, contestant: str, device: str, threads: int) -> dict[str, float]:
    """Bytes, measured in a fresh process.

    Raises:
        Unable: it failed.
    """
    command = [sys.executable, "-W", "ignore", "-m", "overhead_bench.memory", case, contestant, device, str(threads)]
    run = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode:
        raise Unable((run.stderr.strip() or f"exit status {run.returncode}").splitlines()[-1][:160])
    return dict(json.loads(run.stdout.splitlines()[-1]))


def _resident(field: str) -> int:
    """``VmRSS``, what the process holds, or ``VmHWM``, the most it held.

    The latter is what getrusage calls ru_maxrss, but for one thing: that one begins at the size of the process that
    started this one.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, flags=re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _main(name: str, contestant: str, device_name: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    device = torch.device(device_name)
    on_gpu = device.type == "cuda"
    case = MEMORY_CASES[device_name][name]
    with tempfile.TemporaryDirectory() as folder, silenced():
        task = build_task(case, device, STEPS, folder)
        before = _resident("VmRSS")
        call = MEMORY_CONTESTANTS[contestant](task)
        imports = _resident("VmRSS") - before
        _train(task)
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.reset_peak_host_memory_stats()
        call()
        peaks = {"host": _resident("VmHWM"), "imports": imports, "state": state_bytes(task.model, task.optimizer)}
        if on_gpu:
            torch.cuda.synchronize()
            peaks["device"] = torch.cuda.max_memory_allocated()
            # Pinned memory need not show in the size of the process.
            peaks["pinned"] = torch.cuda.host_memory_stats()["allocated_bytes.peak"]
    print(json.dumps(peaks))


def _train(task: Task) -> None:
    """A few steps, so that the optimizer has its moments; gradients are dropped, as between two steps."""
    inputs, target = task.first
    for _ in range(3):
        task.optimizer.zero_grad()
        task.criterion(task.model(inputs), target).backward()
        task.optimizer.step()
    task.optimizer.zero_grad()


if __name__ == "__main__":
    _main(*sys.argv[1:])
