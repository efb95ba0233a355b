"""Run shards on the machines of a Ray cluster.

Ray restarts no actor and repeats no call. Actors of a driver that was killed are ended by it, and
until it has, the next driver, which gets the lock at once, has cleared all rooms and opened its own
under other names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PlanError
from pipeline.execute.actor import TICK, Actor, Site
from pipeline.execute.cluster import connected
from pipeline.execute.driver import Driver, Event, Lost
from pipeline.execute.queue import Queue
from pipeline.types import Shard


def run_ray(
    site: Site, shards: Sequence[Shard], *, address: str, needs: Mapping[str, float]
) -> Iterator[Event]:
    """Work through shards on the cluster at an address; `local` starts one on this machine.

    needs: what one actor takes of a machine: `CPU`, `GPU`, `memory` (bytes). Raises
    MissingDependency; DeviceError when there is no cluster; PlanError when no machine has what an
    actor needs; and what `Driver.run` does.
    """
    with connected(address) as (ray, heed_signals):
        cluster = _Cluster(ray, needs)
        driver = Driver(cluster, site, Queue(shards))
        if not cluster.places():
            wanted = ", ".join(f"{name} {amount:g}" for name, amount in cluster.needs.items())
            message = (
                f"no machine of the Ray cluster has what an actor takes ({wanted}); "
                "lower run.threads or run.memory"
            )
            raise PlanError(message)
        try:
            for event in driver.run({shard.id for shard in shards}):
                heed_signals()
                yield event
        finally:
            driver.dismiss()


class _RayActor(Actor):
    """One that knows what Ray calls its machine."""

    def host(self) -> tuple[str, str]:
        """The name of the machine and Ray's of it."""
        import ray

        return super().host()[0], ray.get_runtime_context().get_node_id()


@dataclass(eq=False)
class _Call:
    """An actor by its handle. awaited: its next word, or, streaming, what yields its words."""

    ray: Any
    handle: Any
    awaited: Any
    streaming: bool = False

    def hand(self, shards: Sequence[Shard]) -> None:
        """Have it work on shards."""
        call = self.handle.work.options(num_returns="streaming")
        self.awaited, self.streaming = call.remote(shards), True

    def word(self) -> Any:
        """What it says next; None at the end of an assignment. Raises Lost."""
        try:
            return self.ray.get(next(self.awaited) if self.streaming else self.awaited)
        except StopIteration:
            return None
        except self.ray.exceptions.RayTaskError as error:  # a defect of ours
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            raise Lost(_sentence(error)) from error

    def end(self) -> None:
        """End the actor."""
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(self.handle, no_restart=True)


class _Cluster:
    """The machines, and what an actor takes of one."""

    def __init__(self, ray: Any, needs: Mapping[str, float]) -> None:
        self.ray = ray
        self.needs = {name: amount for name, amount in needs.items() if amount}

    def places(self) -> int:
        """How many actors fit on the machines that are alive."""
        return sum(
            min(int(node["Resources"].get(name, 0) // n) for name, n in self.needs.items())
            for node in self.ray.nodes()
            if node["Alive"]
        )

    def hire(self, site: Site, room: str) -> _Call:
        """Start an actor."""
        others = {k: v for k, v in self.needs.items() if k not in ("CPU", "GPU")}
        kind = self.ray.remote(_RayActor).options(
            num_cpus=self.needs.get("CPU", 0),
            num_gpus=self.needs.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            **others,
        )
        handle = kind.remote(site, room)
        return _Call(self.ray, handle, handle.enter.remote())

    def ready(self, lines: Sequence[_Call]) -> Sequence[_Call]:
        """Those on which there is a word; waits for one, a tick at most."""
        awaited = {line.awaited: line for line in lines}
        found, others = self.ray.wait(list(awaited), timeout=TICK, fetch_local=False)
        if others:
            many = len(others)
            more, _ = self.ray.wait(others, num_returns=many, timeout=0, fetch_local=False)
            found += more
        return [awaited[one] for one in found]

    def gone(self, node: str) -> bool:
        """Whether a machine is."""
        return node not in {one["NodeID"] for one in self.ray.nodes() if one["Alive"]}


def _sentence(reason: Exception) -> str:
    """The first sentence of the last line: Ray begins with identifiers and ends with advice."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return lines[-1].partition(". ")[0][:500]
