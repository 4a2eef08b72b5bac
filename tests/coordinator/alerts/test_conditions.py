"""What is told of conditions that come and go in any order: each once, its end exactly if its beginning was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.conditions import Bounds, Conditions, Key

KINDS = (AlertKind.LOGIN_LOST, AlertKind.QUOTA, AlertKind.CRASH_LOOP)
CHILDREN = ("ada", "bob", "cyd")
BOUNDS = Bounds(window_s=100.0, of_a_kind=5, of_one=2, summary_after_s=10.0, summary_every_s=30.0)
Step = tuple[str, Key | float | bool | None]
KEYS = [Key(kind, child) for kind in KINDS for child in CHILDREN]


@dataclass
class World:
    """Conditions with a clock and a queue that a test moves."""

    bounds: Bounds = BOUNDS
    now: float = 1000.0
    room: bool = True
    told: list[tuple[float, Alert]] = field(default_factory=list)
    left_out: Counter[AlertKind] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.conditions = Conditions(
            lambda alert: self.told.append((self.now, alert)),
            has_room=lambda: self.room,
            left_out=lambda kind: self.left_out.update([kind]),
            clock=lambda: self.now,
            wall=lambda: self.now + 1e9,
            bounds=self.bounds,
        )

    def take(self, step: Step, holding: set[Key]) -> None:
        """Do what a step says, and note in `holding` which conditions there are."""
        match step:
            case "begin", Key() as key:
                holding.add(key)
                self.conditions.begin(key)
            case "end", Key() as key:
                holding.discard(key)
                self.conditions.end(key)
            case "pass", float(seconds):
                self.now += seconds
            case "room", bool(room):
                self.room = room
            case _:
                self.conditions.look()

    def kinds(self) -> list[AlertKind]:
        return [alert.kind for _, alert in self.told]

    def of(self, key: Key) -> Iterator[tuple[str, Alert]]:
        """Yield what was told of a condition: "begin" and "end"."""
        for _, alert in self.told:
            if alert.data.get("child") == key.child:
                if alert.kind is key.kind:
                    yield "begin", alert
                elif alert.data.get("recovered_from") == key.kind:
                    yield "end", alert


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from(KEYS)),
        st.tuples(st.just("end"), st.sampled_from(KEYS)),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 5.0, 40.0, 120.0])),
        st.tuples(st.just("room"), st.booleans()),
        st.tuples(st.just("look"), st.none()),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happens_each_condition_is_told_once_and_its_end_after_it(steps: list[Step]) -> None:
    world, holding = World(), set[Key]()
    for step in steps:
        world.take(step, holding)
    assert set(world.conditions.holding()) == holding

    for key in KEYS:
        parts = [part for part, _ in world.of(key)]
        assert parts == ["begin", "end"] * (len(parts) // 2) + ["begin"] * (len(parts) % 2), f"{key}: {parts}"
        if parts and parts[-1] == "begin":
            assert key in holding, f"{key} is over, and nobody was told"

    # No window has more than its bound.
    for kind in KINDS:
        times = [at for at, alert in world.told if alert.kind is kind]
        beyond = times[BOUNDS.of_a_kind :]
        assert all(at - earlier >= BOUNDS.window_s for earlier, at in zip(times, beyond, strict=False))

    # Nothing is left out silently, and what lasts is told in the end.
    world.room = True
    world.now += 10 * BOUNDS.window_s
    for _ in range(len(KEYS)):
        world.conditions.look()
        world.now += 2 * BOUNDS.window_s
    for key in holding:
        assert [part for part, _ in world.of(key)][-1] == "begin"
    summed_up: Counter[AlertKind] = Counter()
    for _, alert in world.told:
        summed_up.update(alert.data.get("left_out", {}))
    assert summed_up == world.left_out


def test_a_child_that_flaps_is_told_of_a_few_times_an_hour_and_the_rest_is_summed_up() -> None:
    world, key = World(Bounds()), Key(AlertKind.QUOTA, "ada")
    for _ in range(300):
        world.conditions.begin(key)
        world.now += 1
        world.conditions.end(key)
        world.conditions.look()
    kinds = Counter(world.kinds())
    assert kinds == {AlertKind.QUOTA: 4, AlertKind.RECOVERED: 4, AlertKind.LEFT_OUT: 1}
    world.now += 600
    world.conditions.look()
    summaries = [alert.data["left_out"] for _, alert in world.told if alert.kind is AlertKind.LEFT_OUT]
    assert sum(summary[AlertKind.QUOTA] for summary in summaries) == 296


def test_one_child_that_flaps_does_not_take_the_place_of_others() -> None:
    world = World(Bounds(of_a_kind=5, of_one=2))
    for _ in range(10):
        world.conditions.begin(Key(AlertKind.LOGIN_LOST, "ada"))
        world.conditions.end(Key(AlertKind.LOGIN_LOST, "ada"))
    world.conditions.begin(Key(AlertKind.LOGIN_LOST, "bob"))
    assert world.told[-1][1].data["child"] == "bob"


def test_a_large_fleet_that_fails_at_once_is_one_bound_and_one_summary() -> None:
    world = World(Bounds())
    for number in range(200):
        world.conditions.begin(Key(AlertKind.LOGIN_LOST, f"login-{number}"))
    world.now += 61
    world.conditions.look()
    assert Counter(world.kinds()) == {AlertKind.LOGIN_LOST: 20, AlertKind.LEFT_OUT: 1}
    assert world.told[-1][1].data["left_out"] == {AlertKind.LOGIN_LOST: 180}
    world.now += 3600
    world.conditions.look()
    assert Counter(world.kinds())[AlertKind.LOGIN_LOST] == 40, "what lasts is told when the hour is over"


def test_what_finds_no_room_is_told_when_there_is_some() -> None:
    world, key = World(), Key(AlertKind.CRASH_LOOP, "ada")
    world.room = False
    world.conditions.begin(key, reason="crash_loop")
    world.conditions.look()
    assert world.told == []
    world.room, began = True, world.now
    world.now += 5
    world.conditions.look()
    (_, alert) = world.told[0]
    assert (alert.kind, alert.at, alert.data) == (
        AlertKind.CRASH_LOOP,
        began + 1e9,
        {"child": "ada", "reason": "crash_loop"},
    )


def test_a_recovery_says_from_what_and_how_long_it_lasted() -> None:
    world, key = World(), Key(AlertKind.PAGE_CHANGED, site="demo")
    world.conditions.begin(key, where="demo.toml line 3")
    world.now += 12.5
    world.conditions.end(key)
    assert world.told[-1][1].data == {"site": "demo", "recovered_from": AlertKind.PAGE_CHANGED, "lasted_s": 12.5}
