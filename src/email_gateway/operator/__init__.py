"""What an operator does beside the running gateway: makes, checks and changes its secrets in AWS, and examines all it stands on.

It talks to AWS and to those servers, and returns what it found or did. Talking to a terminal is the command
line's; fetching values while the gateway runs is the room `secrets`, whose names and validation it uses.
"""
