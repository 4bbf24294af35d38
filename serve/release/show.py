"""Releases, replicas and candidates as tables for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serve.release.compare import AgreementReport
from serve.release.figures import CandidateReport, TimesReport
from serve.release.history import Record
from serve.release.report import ReplicaReport

__all__ = ["history_table", "status_tables"]

_STYLES = {
    "served": "green",
    "applied": "green",
    "returned": "yellow",
    "steady": "green",
    "changing": "yellow",
}


def history_table(records: Sequence[Record]) -> Table:
    """Every release, the newest first."""
    table = Table("release", "when", "by", "what", "way", "outcome", "bundles", "why")
    for record in reversed(records):
        bundles = [
            f"{name} {record.args.fingerprints.get(name, '')[:8]}" for name in record.args.bundles
        ]
        why = [record.reason, *(f"by force: {one}" for one in record.overridden)]
        table.add_row(
            str(record.number),
            record.time.replace("+00:00", "Z"),
            record.by,
            record.kind,
            record.way,
            Text(record.outcome, style=_STYLES.get(record.outcome, "red")),
            "\n".join(bundles),
            "\n".join(line for line in why if line),
        )
    return table


def status_tables(replicas: Sequence[ReplicaReport]) -> RenderableType:
    """What every replica serves, and how candidates compare."""
    table = Table("replica", "release", "state", "model", "variant", "fingerprint", "bundle")
    for replica in replicas:
        state = Text(replica.state, style=_STYLES.get(replica.state, "red"))
        for place, (name, model) in enumerate(replica.models.items()):
            first = (replica.replica, str(replica.release), state) if place == 0 else ("", "", "")
            table.add_row(*first, name, model.variant, model.fingerprint[:12], model.bundle)
    parts: list[RenderableType] = [table]
    parts += [
        Text(f"{replica.replica}: {replica.problem}", style="red")
        for replica in replicas
        if replica.problem
    ]
    for replica in replicas:
        for name, candidate in replica.candidates.items():
            parts.append(_candidate_table(replica.replica, name, candidate))
    return Group(*parts)


def _candidate_table(replica: str, name: str, candidate: CandidateReport) -> Table:
    shares = f"{candidate.percent:g} % of requests, shadow of {candidate.shadow:g} %"
    title = f"{name}: {candidate.variant} {candidate.fingerprint[:12]} ({shares}), {replica}"
    table = Table("", "current", "candidate", title=title, title_justify="left")
    for label, current, other in _rows(candidate):
        table.add_row(label, current, other)
    return table


def _rows(candidate: CandidateReport) -> Iterator[tuple[str, str, str]]:
    mine, theirs = candidate.current, candidate.candidate
    yield "requests", str(mine.requests), str(theirs.requests)
    yield "errors", str(mine.errors), str(theirs.errors)
    yield "median / p95", _times(mine), _times(theirs)
    shadowed = candidate.shadowed
    if candidate.shadow:
        counts = f"{shadowed.dropped} dropped, {shadowed.failed} failed"
        yield "shadowed", f"{shadowed.compared} compared", counts
        yield "  median / p95", _times(shadowed.current), _times(shadowed.candidate)
    for task, agreement in candidate.tasks.items():
        yield f"  {task}", f"{agreement.compared} answers", _agreement(agreement)


def _times(times: TimesReport) -> str:
    if times.p50_ms is None or times.p95_ms is None:
        return "-"
    return f"{times.p50_ms:.1f} / {times.p95_ms:.1f} ms"


def _agreement(agreement: AgreementReport) -> str:
    parts = [] if agreement.agreement is None else [f"{agreement.agreement:.1%} the same"]
    parts += [
        f"{name.replace('_', ' ')} {figure.mean:.3f} ({figure.least:.3f} to {figure.most:.3f})"
        for name, figure in agreement.figures.items()
    ]
    return "\n".join(parts)
