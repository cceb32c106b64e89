"""The client of a served generator: seeds in, images out.

Public: Client (client), Cancellation and Cancelled (cancel), RetryPolicy and Unavailable (retry), Transport and connect
(transport), and the requests of `salon query` (request).
"""
