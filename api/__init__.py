"""The service: GraphQL over HTTP in front of one ledger, with sessions for reading and GraphiQL to explore it.

``schema`` says what can be asked, ``graphql_view`` how a request becomes an answer, ``feed`` what lies under ``/log/``,
``app`` puts them on HTTP.
Whatever decides about points is in :mod:`ledger`; nothing here does.
"""
