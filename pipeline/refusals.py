"""Jobs that cannot be done as they are meant, told before any header is read."""

from __future__ import annotations

from pipeline.config import Config, difference
from pipeline.config.quantities import written_size
from pipeline.errors import PlanError
from pipeline.execute import cluster
from pipeline.plan import Plan
from pipeline.readers import nvjpeg
from pipeline.storage import Place, is_within
from pipeline.store import State

_ARITHMETIC = "the version of filterbank's arithmetic"
_UNSAID = {
    "cpu": _ARITHMETIC,
    "cuda": f"{_ARITHMETIC}, or that only one of the machines can build fused kernels",
}
"""What differs where neither config nor device does."""


def refuse_own_output(config: Config, output: Place) -> None:
    """Raise PlanError where results would be read as input."""
    for path in config.input.path:
        if is_within(path, output):
            message = f"input {path!r} lies in output.path {output}; give results their own folder"
            raise PlanError(message)


def refuse_other_plan(plan: Plan, state: State) -> None:
    """Raise PlanError, with what differs, where a folder holds results of another plan."""
    if state.digest is None or state.digest == plan.digest:
        return
    changes = difference(dict(state.config), plan.expanded)
    if state.device != plan.device:
        changes.append(f"device: {state.device} -> {plan.device}")
    message = "\n  ".join(
        [
            f"{plan.root} holds results of another plan ({state.digest[:8]}); what differs:",
            *(changes[:20] or [_UNSAID[plan.device]]),
            "use another output.path, put {digest} in it, or --overwrite " + state.digest[:8],
        ]
    )
    raise PlanError(message)


def refuse_decoder(plan: Plan) -> None:
    """Raise MissingDependency, PlanError where JPEG cannot be decoded as it is asked."""
    if plan.config.input.jpeg == "libjpeg":
        return
    if plan.device != "cuda":
        message = "input.jpeg: nvjpeg decodes on a GPU, and this run has none; use --device cuda"
        raise PlanError(message)
    nvjpeg.require()


def fewer_readers(plan: Plan) -> str:
    """What else may help where memory is short: to read in the process that computes."""
    return ", or lower run.workers (0: no process but this one)" if plan.workers else ""


def refuse_memory(plan: Plan) -> None:
    """Raise PlanError where a run takes more than `run.memory` before its first image."""
    if plan.room <= 0:
        message = (
            f"run.memory is {written_size(plan.memory)}, and the processes of a run take "
            f"{written_size(plan.standing)} before the first image; raise it{fewer_readers(plan)}"
        )
        raise PlanError(message)


def refuse_executor(plan: Plan) -> None:
    """Raise MissingDependency, PlanError where other processes could not do what is asked."""
    executor = plan.config.run.executor
    if executor == "local":
        return
    if executor == "ray":
        cluster.require()
    elif plan.device != "cpu":
        message = "run.executor processes is for CPUs; a GPU has one process: use local"
        raise PlanError(message)
    for path in (*plan.config.input.path, str(plan.root)):
        if path.startswith("memory://"):
            message = f"{path}: memory:// is seen by one process only; name a folder or a store"
            raise PlanError(message)
