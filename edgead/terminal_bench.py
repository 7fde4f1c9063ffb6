"""Latencies on the terminal, as `edgead bench` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from edgead.terminal import escape, names_last, out, table_of

if TYPE_CHECKING:
    from edgead.commands.bench import BenchResult
    from edgead.commands.roofline import LayerPoint, Roofline
    from edgead.engines.operator_times import OperatorTime
    from edgead.line.throughput import CamerasBench

MOST_OPERATORS = 10
MOST_LAYERS = 12


def show_bench(result: BenchResult) -> None:
    """Print latencies and costs."""
    content = result.to_json()
    table = table_of("ms", "p50", "p95", "p99")
    out.print(f"engine {result.engine} on {result.device}")
    stages = {f"  {name}": value for name, value in content["stages_ms"].items()}
    gpu = content["gpu"]
    on_gpu = {"  on the GPU": gpu["gpu_ms"]} if gpu else {}
    rows = {"engine alone": content["engine_ms"], **on_gpu, "end to end": content["end_to_end_ms"], **stages}
    for name, value in rows.items():
        table.add_row(name, *(f"{value[key]:.2f}" for key in ("p50", "p95", "p99")))
    out.print(table)
    ratio = content["end_to_end_ms"]["p50"] / content["engine_ms"]["p50"]
    each = f" for each of {result.inputs_per_frame} inputs" if result.inputs_per_frame > 1 else ""
    out.print(
        f"{content['fps']:.1f} frames/s · end to end / engine {ratio:.2f} · start-up {content['startup_s']:.2f} s · "
        f"memory {content['rss_mb']:.0f} MB · {content['multiply_adds'] / 1e6:.0f} M multiply-adds{each}"
    )
    if result.cameras is not None:
        _show_cameras(result.cameras)
    if result.operators is not None:
        _show_operators(result.operators)
    if result.roofline is not None:
        _show_roofline(result.roofline)
    if gpu:
        out.print(
            "launched as one CUDA graph" if gpu["cuda_graph"] else f"no CUDA graph: {gpu['cuda_graph_note']}",
            markup=False,
        )
        if gpu["power_note"]:
            out.print(
                f"Note: the engine was {gpu['power_note']}. To measure this mode, edgead build-engine --rebuild.",
                markup=False,
            )


def _show_cameras(result: CamerasBench) -> None:
    alone, shared = result.delay_ms, result.delay_when_one_dies_ms
    out.print(
        f"{result.cameras} cameras: {result.stream_fps:.1f} frames/s, {result.ratio:.2f} of the engine's "
        f"{result.engine_fps:.1f} on batches of {result.cameras}\n"
        f"  from capture to verdict at {result.load:.0%} of that: p50 {alone['p50']:.1f} ms, p95 {alone['p95']:.1f} ms; "
        f"when one of them dies, the others p50 {shared['p50']:.1f} ms, p95 {shared['p95']:.1f} ms"
    )


def _show_operators(times: list[OperatorTime]) -> None:
    """Print the time of each kind of operator, and the slowest nodes."""
    from edgead.engines.operator_times import by_operator

    whole = sum(one.milliseconds for one in times)
    kinds = table_of("operator", "nodes", "ms", "share")
    for name, count, milliseconds in by_operator(times)[:MOST_OPERATORS]:
        kinds.add_row(escape(name), str(count), f"{milliseconds:.2f}", f"{milliseconds / whole:.0%}")
    out.print(kinds)
    slowest = names_last("slowest", "ms", "share", "node")
    for one in times[:MOST_OPERATORS]:
        share = f"{one.milliseconds / whole:.0%}"
        slowest.add_row(escape(one.operator), f"{one.milliseconds:.2f}", share, escape(one.node))
    out.print(slowest)


def _show_roofline(roofline: Roofline) -> None:
    """Print the layers that take the most time beside their limits, then the boards."""
    peak = roofline.peak
    out.print(
        f"float32 graph, {peak.threads} thread(s): at best {peak.operations_per_s / 1e9:.0f} GFLOP/s and "
        f"{peak.bytes_per_s / 1e9:.1f} GB/s (measured)"
    )
    table = table_of("layer", "M mul-adds", "MB", "op/byte", "ms", "at least", "by")
    slowest = sorted(roofline.layers, key=lambda layer: -(layer.measured_ms or layer.bound_ms))
    for layer in slowest[:MOST_LAYERS]:
        _add_layers(table, layer.short_name, [layer])
    _add_layers(table, f"{len(slowest[MOST_LAYERS:])} others", slowest[MOST_LAYERS:])
    _add_layers(table, f"all {len(slowest)}", slowest)
    out.print(table)
    if any(layer.measured_ms is not None and layer.measured_ms < layer.bound_ms for layer in slowest):
        out.print("Below its limit: data stayed in the caches, or the peak was measured beside other work.")
    boards = table_of("predicted, never measured", "FP16, at least ms", "INT8, at least ms", "GB/s")
    for one in roofline.predictions:
        boards.add_row(one.board.name, f"{one.fp16_ms:.2f}", f"{one.int8_ms:.2f}", f"{one.board.gb_per_s:g}")
    out.print(boards)
    out.print("From data sheets alone. Engines take longer, by a factor that was not measured.")


def _add_layers(table: Table, name: str, layers: list[LayerPoint]) -> None:
    adds, size = (sum(getattr(layer.cost, key) for layer in layers) for key in ("multiply_adds", "n_bytes"))
    measured = [layer.measured_ms for layer in layers if layer.measured_ms is not None]
    by = {layer.bound_by for layer in layers}
    table.add_row(
        escape(name), f"{adds / 1e6:.1f}", f"{size / 1e6:.2f}", f"{2 * adds / size:.1f}" if size else "-",
        f"{sum(measured):.2f}" if measured else "-", f"{sum(layer.bound_ms for layer in layers):.2f}",
        by.pop() if len(by) == 1 else "",
    )  # fmt: skip
