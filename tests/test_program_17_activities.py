"""Birthday, sharing, survey, review: activities with evidence and caps."""

from hashlib import sha256

from tests.loyalty import Loyalty, refused

NAME = "17_activities"


def proof(text: str) -> str:
    """The hash of what proves an activity."""
    return sha256(text.encode()).hexdigest()


def test_three_a_month_are_paid_and_the_fourth_is_not(loyalty: Loyalty) -> None:
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    loyalty.on("2026-03-31")
    for post in ("one", "two", "three"):
        club.grant(ann, "social_share", 10, evidence=proof(post))
    with refused("LIMIT_REACHED"):
        club.grant(ann, "social_share", 10, evidence=proof("four"))
    club.grant(ben, "social_share", 10, evidence=proof("his"))
    assert (club.balance(ann), club.balance(ben)) == (30, 10)
    loyalty.on("2026-04-01")
    club.grant(ann, "social_share", 10, evidence=proof("four"))
    assert club.achievements(ann) == {"social_share": 4}


def test_evidence_is_good_once(loyalty: Loyalty) -> None:
    """In the whole program: for nobody else, and for no other activity."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.grant(ann, "social_share", 10, evidence=proof("post"))
    for member, activity in ((ann, "social_share"), (ben, "social_share"), (ann, "review")):
        with refused("EVIDENCE_USED"):
            club.grant(member, activity, 10, evidence=proof("post"))
    with refused("EVIDENCE_MISSING"):
        club.grant(ben, "review", 10)
    with refused("EVIDENCE_UNEXPECTED"):
        club.grant(ben, "survey", 10, score=9, evidence=proof("answers"))


def test_a_survey_has_a_score(loyalty: Loyalty) -> None:
    """Which may be 0, as its points may."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.grant(ann, "survey", 25, score=10)
    club.grant(ben, "survey", score=0)
    assert (club.balance(ann), club.balance(ben)) == (25, 0)
    with refused("SCORE_MISSING"):
        club.grant(loyalty.member(), "survey", 25)
    with refused("SCORE_UNEXPECTED"):
        club.grant(ann, "review", 10, evidence=proof("text"), score=5)
    with refused("MALFORMED"):
        club.grant(loyalty.member(), "survey", 25, score=11)


def test_caps_are_of_their_own_periods(loyalty: Loyalty) -> None:
    """Three reviews a day, a birthday a year."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-05-05")
    for day in range(2):
        for i in range(3):
            club.grant(ann, "review", 50, evidence=proof(f"review {day} {i}"))
        with refused("LIMIT_REACHED"):
            club.grant(ann, "review", 50, evidence=proof(f"review {day} 3"))
        loyalty.later(days=1)
    assert club.balance(ann) == 300
    club.grant(ann, "birthday", 90)
    with refused("LIMIT_REACHED"):
        club.grant(ann, "birthday", 90)
