"""The report of points per customer per month and in total: gathered in one snapshot, shown as tables or CSV."""

import csv
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from ledger import queries
from ledger.store import Store, StoreError

REPORT_PAGE = 5_000
"""Rows of one query: a bound on memory, whatever the number of customers."""


class MonthEarned(msgspec.Struct, frozen=True, kw_only=True):
    """What one customer, or all of them, earned in a month."""

    month: str
    purchases: int
    points: int


class CustomerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one customer earned, by month and in total. ``customer`` is the merchant's number, where it is known."""

    account: str
    customer: str | None
    points: int
    months: tuple[MonthEarned, ...]


class PointsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Points of an asset earned per customer per month, per month, and in total."""

    asset: str
    points: int
    purchases: int
    members: int
    months: tuple[MonthEarned, ...]
    customers: tuple[CustomerReport, ...]


def points_report(store: Store, asset: str, numbers: dict[str, str]) -> PointsReport:
    """Gather the report in one snapshot; raise :class:`StoreError` for an unknown asset."""
    with store.read() as connection:
        if queries.asset(store, connection, asset) is None:
            raise StoreError(f"there is no asset {asset}")
        total, months = queries.points_totals(store, connection, asset)
        earned: dict[str, list[MonthEarned]] = {}
        after = None
        while True:
            page = queries.points_by_month(store, connection, asset, None, queries.Page(limit=REPORT_PAGE, after=after))
            for row in page:
                month = MonthEarned(month=row.month, purchases=row.purchases, points=row.points)
                earned.setdefault(row.account, []).append(month)
            if len(page) < REPORT_PAGE:
                break
            after = (page[-1].account, page[-1].month)
    customers = [
        CustomerReport(
            account=account,
            customer=numbers.get(account),
            points=sum(month.points for month in rows),
            months=tuple(rows),
        )
        for account, rows in earned.items()
    ]
    customers.sort(key=lambda row: (row.customer or "", row.account))
    return PointsReport(
        asset=asset,
        points=total.points,
        purchases=total.purchases,
        members=total.members,
        months=tuple(MonthEarned(month=m.month, purchases=m.purchases, points=m.points) for m in months),
        customers=tuple(customers),
    )


def write_report_csv(gathered: PointsReport, file: Any) -> None:
    """One line per customer and month, and one per customer with the month ``total``."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["customer", "account", "month", "purchases", "points"])
    for customer in gathered.customers:
        name = customer.customer or ""
        for month in customer.months:
            writer.writerow([name, customer.account, month.month, month.purchases, month.points])
        purchases = sum(month.purchases for month in customer.months)
        writer.writerow([name, customer.account, "total", purchases, customer.points])


def print_report(gathered: PointsReport, console: Console, first: int | None) -> None:
    """The report as tables: customers by month, then all customers by month."""
    shown = gathered.customers if first is None else gathered.customers[:first]
    table = Table(title=f"{gathered.asset} earned per customer and month")
    for column, justify in (("customer", "left"), ("month", "left"), ("purchases", "right"), ("points", "right")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for customer in shown:
        for i, month in enumerate(customer.months):
            name = (customer.customer or customer.account) if i == 0 else ""
            table.add_row(name, month.month, f"{month.purchases:,}", f"{month.points:,}")
        purchases = sum(month.purchases for month in customer.months)
        table.add_row("", "total", f"{purchases:,}", f"{customer.points:,}", end_section=True)
    if shown:
        console.print(table)
    if len(shown) < len(gathered.customers):
        console.print(f"… and {len(gathered.customers) - len(shown):,} more customers\n")
    totals = Table(title=f"{gathered.asset} earned by all customers")
    for column, justify in (("month", "left"), ("purchases", "right"), ("points", "right")):
        totals.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for month in gathered.months:
        totals.add_row(month.month, f"{month.purchases:,}", f"{month.points:,}")
    totals.add_section()
    totals.add_row("total", f"{gathered.purchases:,}", f"{gathered.points:,}")
    console.print(totals)
