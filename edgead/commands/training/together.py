"""Features that several processes compute together: the first one says which, and the others help until it needs no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgead.train.distributed import World


def announce(world: World | None, wanted: Any) -> None:
    """Tell the other processes which features are wanted next, as something picklable; None = no more.

    Args:
        world: Processes of which this is the first; None = this one alone.
        wanted: What `announced` returns there.
    """
    if world is not None:
        world.from_main(lambda: wanted)


def announced(world: World) -> Any:
    """Next request of the first process; None = no more."""
    return world.from_main(lambda: None)


def together(world: World | None) -> dict[str, Any]:
    """Arguments of `extract_features` with which all processes compute a share each."""
    return {} if world is None else {"rank": world.rank, "world_size": world.size, "barrier": world.barrier}
