"""The currency: canonical format, keys, rules, proofs, storage and audit. Knows nothing of GraphQL or HTTP.

Imports point one way::

    encoding keys merkle  <-  operations entries checkpoint  <-  programs rules   pure: no clock, I/O, SQL, randomness
                          <-  store migrations                                    tables and bulk statements, no rules
                          <-  sequencer audit purchases wallet keyring verifier   clock, store and signer passed in
"""
