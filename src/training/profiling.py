"""Profile a few steps of a training with MindSpore's profiler."""
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Union

from mindspore import profiler

from src.common.errors import InputError

# The first steps compile graphs and fill queues.
SKIPPED, PROFILED = 3, 3


@contextmanager
def profiled(folder: Union[str, Path, None], target: str) -> Iterator[Callable[[], None]]:
    """Profile steps SKIPPED + 1 to SKIPPED + PROFILED of the training in the block; nothing if folder is None.

    Operators and their times: FRAMEWORK/cpu_op_type_info_0.csv (CPU) or ASCEND_PROFILER_OUTPUT/op_statistic.csv (Ascend), in a
    new sub-folder of `folder`; ASCEND_PROFILER_OUTPUT/trace_view.json is the timeline, for ui.perfetto.dev.

    Yields:
        Function to call after every step.

    Raises:
        InputError: the folder cannot be made.
    """
    if folder is None:
        yield lambda: None
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'--profile={folder}: cannot make this folder: {error.strerror}') from error
    activities = [profiler.ProfilerActivity.CPU] + ([profiler.ProfilerActivity.NPU] if target == 'Ascend' else [])
    schedule = profiler.schedule(wait=0, warmup=1, active=PROFILED, repeat=1, skip_first=SKIPPED - 1)
    with profiler.profile(activities=activities, schedule=schedule,
                          on_trace_ready=profiler.tensorboard_trace_handler(str(folder))) as running:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            running.step()
        yield step
    print(f'profile: {folder}' if steps >= SKIPPED + PROFILED else
          f'--profile={folder}: nothing was profiled in {steps} steps, it takes {SKIPPED + PROFILED}')
