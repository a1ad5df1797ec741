"""The barrier: the same frames however bars are spread over shards, cut into slices and interleaved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from zlib import crc32

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from operators.columns import BarColumns
from operators.slots import NO_SLOT, Slots
from operators.universe import UNIVERSE_KEY, UniverseFrame, UniverseSlice, UniverseState, universe
from operators.universe_config import UniverseConfig
from operators.universe_slices import Carried, UniverseSlices
from schemas.enums import Missing
from schemas.errors import ConfigError, InvariantError, VersionError
from schemas.time import END_OF_TIME

SECOND = 10**9
INTERVAL = 60 * SECOND
NAMES = ("spread_bps", "zscore")

Bar = tuple[int, str, float, float, tuple[float, float]]


def config(**parameters) -> UniverseConfig:
    return UniverseConfig.model_validate({"interval": "1m", "live_within": "3m", "half_life": "5m", **parameters})


def piece(shard: str, frontier: int, bars: list[Bar]) -> UniverseSlice:
    values = np.array([bar[4] for bar in bars]).reshape(len(bars), len(NAMES))
    missing = np.where(np.isfinite(values), Missing.OK, Missing.NO_INPUT).astype(np.uint8)
    made = UniverseSlice(
        shard, frontier, INTERVAL, np.array([bar[0] for bar in bars], dtype=np.int64),
        tuple(bar[1] for bar in bars), np.array([bar[2] for bar in bars]), np.array([bar[3] for bar in bars]),
        values, missing,
    )  # fmt: skip
    for array in (made.ts, made.close, made.volume, made.values, made.missing):
        array.flags.writeable = False
    return made


def market(seed: int, frames: int = 12, instruments: int = 9) -> list[Bar]:
    """Return bars in order of time: each instrument closes most of them."""
    rng = np.random.default_rng(seed)
    found: list[Bar] = []
    for frame in range(1, frames + 1):
        for number in range(instruments):
            if rng.random() < 0.8:
                spread = rng.uniform(1, 30) if rng.random() < 0.7 else np.nan
                found.append(
                    (frame * INTERVAL, f"I{number}", 10.0 + number + rng.normal(), rng.integers(1, 9) * 10.0,
                     (spread, rng.normal()))
                )  # fmt: skip
    return found


def slices(bars: list[Bar], shards: int, cuts: list[int], order: list[int]) -> list[UniverseSlice]:
    """Return the slices of every shard, each shard's in order, shards interleaved as `order` says."""
    own = defaultdict(list)
    for bar in bars:
        own[crc32(bar[1].encode()) % shards].append(bar)
    edges = [*sorted({cut * INTERVAL // 2 for cut in cuts}), END_OF_TIME]
    queues = []
    for shard in range(shards):
        queue, below = [], 0
        for number, edge in enumerate(edges):
            # shards do not all stop at the same moments
            frontier = edge if edge == END_OF_TIME else edge + shard * 7 * number % INTERVAL
            queue.append(piece(str(shard), frontier, [bar for bar in own[shard] if below < bar[0] <= frontier]))
            below = frontier
        queues.append(queue)
    found = []
    picks = iter(order)
    while any(queues):
        left = [queue for queue in queues if queue]
        found.append(left[next(picks, 0) % len(left)].pop(0))
    return found


def plain(frame: UniverseFrame) -> tuple:
    return (
        frame.ts, frame.instruments, frame.close.tolist(), frame.volume.tolist(), frame.names,
        np.nan_to_num(frame.values, nan=-1.0).tolist(), frame.missing.tolist(), frame.live, frame.complete,
    )  # fmt: skip


def run(settings: UniverseConfig, shards: int, pieces: list[UniverseSlice], *, resume_at: set[int] = frozenset()):  # type: ignore[assignment]
    names = tuple(str(shard) for shard in range(shards))
    state = UniverseState(settings, names, NAMES)
    found = []
    for number, item in enumerate(pieces):
        if number in resume_at:
            kept = state.snapshot()
            state = UniverseState(settings, names, NAMES)
            state.restore(kept)
        found += [plain(frame) for frame in state.update(item)]
    assert state.held_rows == 0
    return found


SETTINGS = (
    config(),
    config(max_instruments=4, min_coverage=0.9),
    config(filters={"max_spread_bps": 20, "min_listing_age": "2m", "min_price": 11, "deny": ["I3"]}),
    config(idle_expiry="3m", max_known=7),
)


@pytest.mark.parametrize("settings", SETTINGS)
@given(
    seed=st.integers(0, 9), shards=st.integers(1, 5), cuts=st.lists(st.integers(1, 30), max_size=9),
    order=st.lists(st.integers(0, 9), max_size=30), resume_at=st.sets(st.integers(0, 30), max_size=4),
)  # fmt: skip
def test_universe_any_shards_and_interleaving_give_the_same_frames(settings, seed, shards, cuts, order, resume_at):
    bars = market(seed)
    expected = run(settings, 1, [piece("0", END_OF_TIME, bars)])
    assert [frame[0] for frame in expected] == sorted({bar[0] for bar in bars})
    assert run(settings, shards, slices(bars, shards, cuts, order), resume_at=resume_at) == expected


def test_universe_slow_shard_holds_up_every_frame():
    state = UniverseState(config(), ("0", "1"), NAMES)
    assert state.update(piece("0", 5 * INTERVAL, [(INTERVAL, "A", 1.0, 1.0, (1.0, 0.0))])) == []
    assert state.held_rows == 1
    assert state.update(piece("1", INTERVAL - 1, [])) == []
    frames = state.update(piece("1", INTERVAL, []))
    assert [(frame.ts, frame.instruments) for frame in frames] == [(INTERVAL, ("A",))]


def test_universe_frame_carries_its_rows_in_alphabetical_order():
    bars = [(INTERVAL, name, price, 2.0, (price, -price)) for name, price in (("B", 2.0), ("C", 3.0), ("A", 1.0))]
    frame = UniverseState(config(), ("0",), NAMES).update(piece("0", END_OF_TIME, bars))[0]
    assert frame.instruments == ("A", "B", "C")
    assert frame.close.tolist() == [1.0, 2.0, 3.0]
    assert frame.values[:, 1].tolist() == [-1.0, -2.0, -3.0]


def test_universe_too_few_present_is_not_complete():
    def bars(frame, names):
        return [(frame * INTERVAL, name, 10.0, 1.0, (1.0, 0.0)) for name in names]

    log = [*bars(1, "ABCDE"), *bars(2, "ABCD"), *bars(3, "ABC"), *bars(9, "A")]
    frames = UniverseState(config(min_coverage=0.8), ("0",), NAMES).update(piece("0", END_OF_TIME, log))
    assert [(frame.live, frame.coverage, frame.complete) for frame in frames] == [
        (5, 1.0, True),
        (5, 0.8, True),
        (5, 0.6, False),
        (1, 1.0, True),
    ]


def test_universe_keeps_the_greatest_by_decayed_notional_and_breaks_ties_by_name():
    def bars(frame, volumes):
        return [(frame * INTERVAL, name, 10.0, volume, (1.0, 0.0)) for name, volume in volumes.items()]

    log = [*bars(1, {"C": 5.0, "B": 5.0, "A": 1.0}), *bars(2, {"C": 1.0, "B": 1.0, "A": 1.0}),
           *bars(3, {"C": 1.0, "B": 1.0, "A": 90.0})]  # fmt: skip
    frames = UniverseState(config(max_instruments=2), ("0",), NAMES).update(piece("0", END_OF_TIME, log))
    assert [frame.instruments for frame in frames] == [("B", "C"), ("B", "C"), ("A", "B")]


def test_universe_notional_decays_while_an_instrument_is_silent():
    def bar(frame, name, volume):
        return (frame * INTERVAL, name, 1.0, volume, (1.0, 0.0))

    settings = config(max_instruments=1, half_life="1m", live_within="10m")
    # 64 at the first minute is 4 at the fifth, less than 5
    log = [bar(1, "A", 64.0), bar(1, "B", 1.0), bar(5, "A", 0.0), bar(5, "B", 5.0)]
    frames = UniverseState(settings, ("0",), NAMES).update(piece("0", END_OF_TIME, log))
    assert [frame.instruments for frame in frames] == [("A",), ("B",)]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"min_price": 15}, "C"),
        ({"max_price": 15}, "AB"),
        ({"min_volume": 150}, "BC"),
        ({"min_notional": 2_500}, "C"),
        ({"max_spread_bps": 5}, "A"),
        ({"allow": ["A", "C", "Z"]}, "AC"),
        ({"deny": ["A", "Z"]}, "BC"),
        ({"min_listing_age": "1m"}, "AB"),
        ({"min_listing_age": "61s"}, ""),
    ],
)
def test_universe_filter_keeps_only_what_passes(filters, left):
    log = [
        (INTERVAL, "A", 10.0, 1.0, (4.0, 0.0)),
        (INTERVAL, "B", 11.0, 2.0, (9.0, 0.0)),
        (2 * INTERVAL, "A", 10.0, 100.0, (np.nan, 0.0)),
        (2 * INTERVAL, "B", 11.0, 200.0, (9.0, 0.0)),
        (2 * INTERVAL, "C", 20.0, 300.0, (np.nan, 0.0)),
    ]
    frames = UniverseState(config(filters=filters), ("0",), NAMES).update(piece("0", END_OF_TIME, log))
    assert frames[-1].instruments == tuple(left)


@pytest.mark.parametrize(("close", "volume"), [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan)])
def test_universe_impossible_bar_is_left_out(close, volume):
    log = [(INTERVAL, "A", close, volume, (1.0, 0.0)), (INTERVAL, "B", 1.0, 1.0, (1.0, 0.0))]
    frame = UniverseState(config(), ("0",), NAMES).update(piece("0", END_OF_TIME, log))[0]
    assert (frame.instruments, frame.live) == (("B",), 1)


def test_universe_huge_notional_stays_finite_and_decays():
    log = [(k * INTERVAL, "A", 1e200, 1e200, (1.0, 0.0)) for k in range(1, 4)]
    state = UniverseState(config(), ("0",), NAMES)
    assert all(frame.complete for frame in state.update(piece("0", END_OF_TIME, log)))


def test_universe_forgotten_instrument_is_listed_anew():
    settings = config(idle_expiry="4m", filters={"min_listing_age": "1m"})
    log = [(frame * INTERVAL, "A", 1.0, 1.0, (1.0, 0.0)) for frame in (1, 2, 7, 8)]
    frames = UniverseState(settings, ("0",), NAMES).update(piece("0", END_OF_TIME, log))
    assert [len(frame.instruments) for frame in frames] == [0, 1, 0, 1]


def test_universe_room_bounds_the_known_instruments():
    log = [(INTERVAL, name, 1.0, 1.0, (1.0, 0.0)) for name in "DCBA"]
    frame = UniverseState(config(max_known=3), ("0",), NAMES).update(piece("0", END_OF_TIME, log))[0]
    assert frame.instruments == ("A", "B", "C")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: piece("9", 9 * INTERVAL, []), "expected slices of 60000000000 ns bars from shards"),
        (lambda: piece("0", INTERVAL, []), "never go back, found `0`"),
        (lambda: piece("0", 9 * INTERVAL, [(INTERVAL, "A", 1.0, 1.0, (1.0, 0.0))]), "expected decision times above"),
        (lambda: piece("0", 3 * INTERVAL, [(4 * INTERVAL, "A", 1.0, 1.0, (1.0, 0.0))]), "expected decision times"),
        (
            lambda: piece("0", 3 * INTERVAL, [(3 * INTERVAL, "A", 1.0, 1.0, (1.0, 0.0))] * 5),
            "expected at most 4 rows that wait",
        ),
        (
            lambda: piece("0", 3 * INTERVAL, [(3 * INTERVAL, "A", 1.0, 1.0, (1.0, 0.0))] * 2),
            "expected an instrument once at each decision time",
        ),
    ],
)
def test_universe_broken_promise_stops(bad, message):
    state = UniverseState(config(max_held_rows=4), ("0",), NAMES)
    state.update(piece("0", 2 * INTERVAL, []))
    with pytest.raises(InvariantError, match=message):
        state.update(bad())


def test_universe_filter_without_its_feature_is_refused():
    with pytest.raises(ConfigError, match="found no \\['spread_bps'\\]"):
        UniverseState(config(filters={"max_spread_bps": 5}), ("0",), ("zscore",))


def test_universe_snapshot_of_other_shards_is_refused():
    kept = UniverseState(config(), ("0",), NAMES).snapshot()
    with pytest.raises(VersionError, match="expected a universe snapshot"):
        UniverseState(config(), ("0", "1"), NAMES).restore(kept)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"filters": {"min_price": 2, "max_price": 1}}, "expected `min_price` up to `max_price`"),
        ({"filters": {"allow": ["A"], "deny": ["A"]}}, "found in both"),
        ({"idle_expiry": "1m"}, "expected `idle_expiry` of at least `live_within`"),
    ],
)
def test_universe_config_inconsistent_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        config(**parameters)


def test_universe_operator_joins_shards_in_a_dataflow():
    bars = market(3)
    pieces = slices(bars, 3, [2, 5, 9], [2, 1, 0, 2])
    out: list[tuple[str, UniverseFrame]] = []
    flow = Dataflow("barrier")
    keyed = op.map("key", op.input("in", flow, TestingSource(pieces)), lambda item: (UNIVERSE_KEY, item))
    op.output("out", universe("universe", keyed, shards=3, config=config(), names=NAMES), TestingSink(out))
    run_main(flow)
    assert [plain(frame) for _, frame in out] == run(config(), 1, [piece("0", END_OF_TIME, bars)])


@given(calls=st.lists(st.tuples(st.sets(st.sampled_from("ABCDEFG"), max_size=4), st.integers(1, 9)), max_size=30))
@pytest.mark.parametrize("evicts", [False, True])
def test_slots_are_distinct_bounded_and_survive_a_snapshot(evicts, calls):
    slots = Slots(4, 15, evicts=evicts)
    now, owner = 0, {}
    for names, step in calls:
        now += step
        twin = Slots(4, 15, evicts=evicts)
        twin.restore(slots.snapshot())
        ordered = tuple(sorted(names))
        found, fresh = slots.assign(ordered, now)
        again, fresh_again = twin.assign(ordered, now)
        assert (found.tolist(), fresh.tolist()) == (again.tolist(), fresh_again.tolist())
        used = [slot for slot in found.tolist() if slot != NO_SLOT]
        assert len(set(used)) == len(used) <= 4
        for name, slot in zip(ordered, found.tolist(), strict=True):
            if slot != NO_SLOT:
                # a slot that changes hands, or whose owner was forgotten, begins anew
                before = owner.get(slot)
                assert slot in fresh.tolist() or (before is not None and before[0] == name and now - before[1] <= 15)
                owner[slot] = (name, now)
        if evicts:
            assert NO_SLOT not in found.tolist()


def bar_columns(bars: list[Bar], interval: int = INTERVAL) -> BarColumns:
    ts = np.array([bar[0] for bar in bars], dtype=np.int64)
    code = np.array([int(bar[1][1:]) for bar in bars], dtype=np.int32)
    price, volume = (np.array([bar[at] for bar in bars], dtype=np.float64) for at in (2, 3))
    return BarColumns(
        code, np.full(len(bars), interval), ts, ts, ts, price, price, price, price, volume, price * volume, price,
        np.ones(len(bars), dtype=np.int64), volume,
    )  # fmt: skip


@given(seed=st.integers(0, 9), shards=st.integers(1, 4), grace=st.sampled_from([0, SECOND]))
def test_slices_of_shards_give_the_frames_of_one(seed, shards, grace):
    bars = [(bar[0] + grace, *bar[1:]) for bar in market(seed)]
    state = UniverseState(config(), tuple(str(shard) for shard in range(shards)), NAMES)
    cutters = [UniverseSlices(Carried(INTERVAL, NAMES), grace, ("rsi", "zscore", "spread_bps")) for _ in range(shards)]
    names, found, before = [f"I{number}" for number in range(9)], [], 0
    for frontier in [*range(INTERVAL // 3, 13 * INTERVAL, INTERVAL // 3), END_OF_TIME]:
        for shard in range(shards):
            own = [bar for bar in bars if before < bar[0] <= frontier and int(bar[1][1:]) % shards == shard]
            values = np.array([[0.0, bar[4][1], bar[4][0]] for bar in own]).reshape(len(own), 3)
            missing = np.where(np.isfinite(values), Missing.OK, Missing.NO_INPUT).astype(np.uint8)
            item = cutters[shard].cut(frontier, bar_columns(own), values, missing, names)
            if item is not None:
                found += [plain(frame) for frame in state.update(replace(item, shard=str(shard)))]
        # nothing waits longer than until every shard has passed its decision time
        assert [frame[0] for frame in found] == sorted({bar[0] for bar in bars if bar[0] <= frontier})
        before = frontier
    assert found == run(config(), 1, [piece("0", END_OF_TIME, bars)])


def test_slices_leave_out_bars_of_other_lengths():
    cutter = UniverseSlices(Carried(INTERVAL, ()), 0, ("zscore",))
    bars = bar_columns([(INTERVAL, "I1", 1.0, 1.0, (1.0, 0.0))], interval=SECOND)
    found = cutter.cut(INTERVAL, bars, np.ones((1, 1)), np.zeros((1, 1), np.uint8), ["I0", "I1"])
    assert found is not None
    assert len(found.ts) == 0


def test_slices_of_a_feature_that_is_not_computed_are_refused():
    with pytest.raises(ConfigError, match=r"found \['zscore'\]; enable them"):
        UniverseSlices(Carried(INTERVAL, ("zscore",)), 0, ("rsi",))
