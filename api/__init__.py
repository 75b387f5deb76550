"""The service: GraphQL over HTTP in front of one ledger, with sessions for reading and GraphiQL to explore it.

``schema`` says what can be asked, ``graphql_view`` how a request becomes an answer, ``documents``, ``limits`` and
``rate_limits`` what is refused before that, ``feed`` what lies under ``/log/``,
``webhook_delivery`` who is told of what is recorded; ``app`` puts them on HTTP.
Whatever decides about points is in :mod:`ledger`; nothing here does.
"""
