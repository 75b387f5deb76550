"""The currency: canonical format, keys, rules, proofs, storage and audit. Knows nothing of GraphQL or HTTP.

Imports point one way::

    encoding keys merkle  <-  operations entries checkpoint  <-  programs rules   pure: no clock, I/O, SQL, randomness
                          <-  store log migrations queries                        tables and bulk statements, no rules
                          <-  sequencer audit archive purchases wallet witness    clock, store and signer passed in
"""
