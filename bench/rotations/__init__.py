"""The load test of rotation: every secret changes, in every way, while mail is accepted, read and searched.

`make rotations` runs it. Traffic is a process of its own (`traffic`); this process holds the
emulated Secrets Manager, plays the operator (`operator`, `acts`) and judges at the end (`promises`).
"""
