"""The exercise "rewards per customer per month and in total": 2 points a unit over 100, 1 from 50 to 100."""

from tests.loyalty import Club, Loyalty, refused

NAME = "01_monthly_rewards"


def test_a_purchase_earns_by_the_band_each_part_of_it_is_in(loyalty: Loyalty) -> None:
    """120 is 40 points of the 20 over 100, and 50 of the 50 from 50 to 100."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    spent = {"120": 90, "100": 50, "50": 0, "75": 25, "200": 250, "49.99": 0, "0": 0}
    assert {amount: club.buy(ann, amount) for amount in spent} == spent
    assert club.balance(ann) == sum(spent.values())


def test_cents_are_dropped_before_the_rates_apply(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert [club.buy(ann, amount) for amount in ("120.75", "100.50")] == [90, 50]


def test_another_version_may_drop_fractions_of_points_instead(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME, round_amount="none"), loyalty.member()
    assert [club.buy(ann, amount) for amount in ("120.75", "100.50")] == [91, 51]


def test_a_refund_takes_back_what_the_part_had_earned_at_the_margin(loyalty: Loyalty) -> None:
    """Of 120, 90 are left: f(90) = 40 points stay, so 50 go."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.buy(ann, "120", order="o-1")
    assert (club.refund("o-1", "30"), club.balance(ann)) == (50, 40)
    assert (club.refund("o-1", "90"), club.balance(ann)) == (40, 0)
    with refused("REFUND_TOO_LARGE"):
        club.refund("o-1", "0.01")


def test_points_are_reported_by_customer_and_month_and_in_total(loyalty: Loyalty) -> None:
    """By the local date of each purchase, whenever it was recorded."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    loyalty.on("2026-04-01")
    for member, day, amount in (
        (ann, "2026-01-31", "120"),
        (ann, "2026-02-01", "75"),
        (ben, "2026-02-28", "200"),
        (ann, "2026-02-28", "100"),
    ):
        club.buy(member, amount, at=f"{day}T23:59:59.999Z")
    by_month, total = report(club)
    assert by_month == {
        (ann.account, "2026-01"): 90,
        (ann.account, "2026-02"): 75,
        (ben.account, "2026-02"): 250,
    }
    assert total == 415


def report(club: Club) -> tuple[dict[tuple[str, str], int], int]:
    """Points of each member and month, and of all together, as the merchant reads them."""
    document = """query($asset: String!) {
      pointsByMonth(asset: $asset, first: 100) { nodes { accountId month points } }
      pointsTotals(asset: $asset) { total { points } }
    }"""
    found = club.loyalty.read(club.wallet, document, asset=club.asset)
    rows = {(each["accountId"], each["month"]): each["points"] for each in found["pointsByMonth"]["nodes"]}
    return rows, found["pointsTotals"]["total"]["points"]
