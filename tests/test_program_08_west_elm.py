"""West Elm Key Rewards: the best rate and never two, gift cards earn nothing, and certificates after a vesting time."""

from tests.loyalty import Club, Loyalty, line, refused

NAME = "08_west_elm"
CARD = "key_card"


def joined_long_ago(loyalty: Loyalty) -> Club:
    """The program, with the clock 40 days after the joining of whoever joins at once."""
    club = loyalty.publish(NAME)
    loyalty.on("2026-03-01")
    return club


def test_five_percent_of_what_is_no_gift_card_become_a_certificate(loyalty: Loyalty) -> None:
    """500.00 by card, of which 100.00 gift card: 20.00, thirty days later."""
    club, ann = joined_long_ago(loyalty), loyalty.member()
    club.enroll(ann)
    loyalty.on("2026-04-10")
    lines = [line("400.00", category="furniture"), line("100.00", category="gift_card")]
    assert club.buy(ann, lines=lines, tender=CARD, order="o-1") == 0
    assert club.pending(ann) == {"o-1": (2_000, "2026-05-10")}
    loyalty.on("2026-05-09")
    with refused("NOTHING_DUE"):
        club.vest("o-1")
    loyalty.on("2026-05-10")
    assert club.vest("o-1") == 2_000
    assert ([each["worth"] for each in club.vouchers(ann)], club.balance(ann)) == ([2_000], 0)
    with refused("NOTHING_DUE"):
        club.vest("o-1")


def test_the_best_rate_counts_alone(loyalty: Loyalty) -> None:
    """100.00 are 2.00, by card 5.00 and not 7.00, and 10.00 in the first 30 days, the day of joining included."""
    club, ann = joined_long_ago(loyalty), loyalty.member()
    club.enroll(ann)
    for order, day in (("first", "2026-03-01"), ("thirtieth", "2026-03-30"), ("later", "2026-03-31")):
        loyalty.on(day)
        club.buy(ann, "100.00", tender=CARD, order=order)
        club.buy(ann, "100.00", tender="cash", order=f"{order}-cash")
    points = {order: points for order, (points, _) in club.pending(ann).items()}
    assert points == {
        "first": 1_000,
        "first-cash": 200,
        "thirtieth": 1_000,
        "thirtieth-cash": 200,
        "later": 500,
        "later-cash": 200,
    }


def test_what_is_left_over_waits_for_the_next_certificate(loyalty: Loyalty) -> None:
    club, ann = joined_long_ago(loyalty), loyalty.member()
    club.buy(ann, "450.00", order="o-1")
    club.buy(ann, "250.00", tender=CARD, order="o-2")
    assert club.pending(ann) == {"o-1": (900, "2026-03-31"), "o-2": (2_500, "2026-03-31")}
    loyalty.on("2026-04-01")
    club.vest("o-1", "o-2")
    assert (len(club.vouchers(ann)), club.balance(ann)) == (1, 1_400)


def test_what_is_returned_before_it_vests_is_never_given(loyalty: Loyalty) -> None:
    """The line that was returned, whatever it had earned."""
    club, ann = joined_long_ago(loyalty), loyalty.member()
    lines = [line("400.00", category="furniture"), line("100.00", category="gift_card"), line("50.00")]
    club.buy(ann, lines=lines, order="o-1")
    assert club.refund("o-1", "100.00", lines=[{"line": 1, "amount": 10_000}]) == 0
    assert club.pending(ann) == {"o-1": (900, "2026-03-31")}
    assert club.refund("o-1", "400.00", lines=[{"line": 0, "amount": 40_000}]) == 0
    assert club.pending(ann) == {"o-1": (100, "2026-03-31")}
    with refused("UNKNOWN_LINE"):
        club.refund("o-1", "1.00", lines=[{"line": 3, "amount": 100}])
    club.refund("o-1", "50.00")
    assert club.pending(ann) == {}


def test_what_has_vested_is_issued_by_itself(loyalty: Loyalty) -> None:
    """By the operator's due run, with the certificate."""
    club, ann = joined_long_ago(loyalty), loyalty.member()
    club.buy(ann, "1000.00")
    loyalty.on("2026-03-31")
    assert [loyalty.run_due(), loyalty.run_due()] == [{"vesting": 1}, {}]
    assert (len(club.vouchers(ann)), club.balance(ann)) == (1, 0)
