from __future__ import annotations

from nodeagent.agent.remembered import Remembered


def test_a_yes_is_worth_its_seconds_and_a_no_nothing() -> None:
    now, answers, asked = [100.0], [True, False, False, True], list[float]()

    def ask() -> bool:
        asked.append(now[0])
        return answers[len(asked) - 1]

    remembered = Remembered(ask, 0.5, lambda: now[0])
    given = []
    for now[0] in (100.0, 100.4, 100.5, 100.6, 100.7, 100.8):
        given.append(remembered())
    assert given == [True, True, False, False, True, True]
    assert asked == [100.0, 100.5, 100.6, 100.7]
