"""What the tests share: processes, networks, waiting, AMQP helpers and checked load.

Nothing in here knows Warren's code; it knows its command line, its ports and AMQP.
"""
