"""How a tenant's data moves to newer data keys while mail flows: values resealed, the blind index rotated.

Every act can be killed at any moment and goes on from there. Making and holding keys is the vault's.
"""
