"""Root keys, data keys, wraps and sealed values: the only room that sees key material.

It keeps its keys through the store. What a sealed value means is up to the caller.
"""
